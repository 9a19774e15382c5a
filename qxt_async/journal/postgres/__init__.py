"""The journal's database on PostgreSQL: a pool of connections, transactions, notifications."""
