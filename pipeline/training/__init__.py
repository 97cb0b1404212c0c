"""Train, distil, export and evaluate models; nothing else imports it."""
