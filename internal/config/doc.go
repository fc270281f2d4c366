// Package config reads Gatepost's configuration file: TOML in, typed structs
// and problems out.
//
//	cfg, problems := config.Load("/etc/gatepost/gatepost.toml")
//
// Invariants:
//   - Load reports everything that is wrong in one run, each problem with line
//     and column; only a syntax error ends the reading early. With an error
//     among the problems there is no Config: nobody can start with half of one.
//   - A Config holds every default, absolute paths and canonical domain names;
//     what it names exists. Callers check nothing again.
//   - Nothing is accepted and then ignored. What this version lacks is refused
//     by the table in notyet.go.
//   - Load only reads files. It opens no port, asks no name server and writes
//     nothing.
//
// The field comments in the files *types.go are the administrator's reference: "go
// generate" turns them into docs/configuration.md.
package config

//go:generate env GATEPOST_UPDATE=1 go test . -run TestReferenceIsUpToDate
