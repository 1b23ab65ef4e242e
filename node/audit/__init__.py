"""The auditor's machinery: two processes that verify an export, its saved state, and the files that it writes."""
