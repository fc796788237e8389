"""The object store and the protocol on it: attempts, write-ahead log, commit record, publication, sweep."""
