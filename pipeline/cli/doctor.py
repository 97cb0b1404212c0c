"""`framechain doctor`: what is installed, what works here, what is missing and the line that installs it."""
