"""Commands for administrators, beside the roles: each looks at a host and changes nothing."""
