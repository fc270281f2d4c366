package config

import "gatepost/internal/mail"

// TLSReports are daily reports to domains that ask for them (TLSRPT): how often TLS with
// their mail exchangers worked, and how it failed. They tell nothing of any message.
type TLSReports struct {
	// Count how sessions of transports of kind mx begin, and send reports.
	Enabled bool `toml:"enabled" default:"false"`
	// Author of the reports, whom readers may ask. A [[dkim]] key of its domain should sign
	// what leaves: receivers may ignore reports that are not signed.
	From mail.Address `toml:"from" default:"(the postmaster)" example:"tls-reports@example.com"`
	// The name of your organisation in reports. Empty: the domain of `from`.
	Organization string `toml:"organization" default:"" example:"Example Ltd."`
}
