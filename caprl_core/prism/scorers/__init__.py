"""What a judge's reply is worth, one rule a file; pure functions of question and reply."""
