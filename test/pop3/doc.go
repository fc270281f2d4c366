// Package pop3 is the POP3 proxy with real servers behind it and real clients in
// front: the binary, Dovecot and popa3d, and the programs that people and
// scripts fetch mail with.
package pop3
