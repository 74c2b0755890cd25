"""Software engineering: repositories with a failing behaviour, tools to mend it, hidden tests that decide."""
