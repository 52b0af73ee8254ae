"""Programs on a terminal: what they print, how they run and end. The command
line and the demo share it."""
