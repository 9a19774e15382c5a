"""The journal's database in an SQLite file: connections, transactions, one thread that writes."""
