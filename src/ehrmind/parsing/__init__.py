"""Text -> an answer, and an answer's value -> a number, date or label; the reasons why not."""
