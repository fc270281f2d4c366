package config

import "gatepost/internal/mail"

// Disclaimer is a text that is put at the end of messages, by filters with the action
// disclaimer:NAME. Signed and encrypted messages, and replies that show it already, are
// left as they are.
type Disclaimer struct {
	// Name in `then` of a [[filter]].
	Name Name `toml:"name" required:"true" example:"legal"`
	// File with the text for plain text, UTF-8. Empty: it is made of html_file.
	TextFile Path `toml:"text_file" default:"" example:"legal.txt"`
	// File with the text for HTML: a fragment, UTF-8. Empty: it is made of text_file.
	HTMLFile Path `toml:"html_file" default:"" example:"legal.html"`
	// Add it also to messages that somebody else has signed with DKIM: their signature
	// breaks.
	BreakDKIM bool `toml:"break_dkim" default:"false"`
	// Add it also to messages that quote it.
	Repeat bool `toml:"repeat" default:"false"`

	// Text and HTML are what is in the files.
	Text, HTML string
}

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
