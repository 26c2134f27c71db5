"""The live view: a web server on this machine alone that shows run folders while they grow. Reads files only, writes none."""
