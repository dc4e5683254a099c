"""Files and where they come from: this machine, web servers, S3, commands; whole or absent."""
