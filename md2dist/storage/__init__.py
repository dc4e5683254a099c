"""Storage: atomic files, locks, downloads, and stores on web servers, S3 and pipes."""
