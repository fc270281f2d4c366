package config

import (
	"time"

	"gatepost/internal/mail"
)

// Bayes is how the statistical filter of the block bayes learns.
type Bayes struct {
	// Messages of each kind, ham and spam, that must have been learned before there
	// are scores.
	MinTrained int `toml:"min_trained" default:"50" min:"1" max:"1000000"`
	// Learn for each domain of recipients by itself, too, and judge its mail by that
	// besides what was learned from all.
	PerDomain bool `toml:"per_domain" default:"false"`
	// Learn from messages that the other blocks are sure of. Absent: learn only what
	// people train.
	Autolearn *Autolearn `toml:"autolearn"`
}

// Autolearn is when a message is learned without being told. The score of the block
// bayes itself does not count.
type Autolearn struct {
	// Above this score, as spam.
	SpamOver float64 `toml:"spam_over" default:"12.0" min:"1" max:"1000"`
	// Below this score, as ham.
	HamUnder float64 `toml:"ham_under" default:"-1.0" min:"-1000" max:"1"`
}

// Quarantine is how long messages are kept that were not delivered, and who hears
// of them.
type Quarantine struct {
	// Age at which a message is deleted.
	Keep time.Duration `toml:"keep" default:"30d" min:"1h" max:"3650d"`
	// Tell recipients each day what was kept from them, with links to have it
	// delivered. Viruses are not among it. Absent: no digests.
	Digest *Digest `toml:"digest"`
	// Text of the notice that a POP3 client gets in the place of a message that is held: a
	// template, see docs/pop3.md. Empty: the one that comes with Gatepost.
	NoticeFile Path `toml:"notice_file" default:"" example:"notice.txt"`
	// Author of such notices, whom readers are told to write to.
	NoticeFrom mail.Address `toml:"notice_from" default:"(the postmaster)" example:"helpdesk@example.com"`
	// How long it is remembered what a scan of a message in a POP3 mailbox found, after a
	// client has asked for the message the last time. Until then it is not scanned again.
	RememberFor time.Duration `toml:"remember_for" default:"90d" min:"1h" max:"3650d"`
	// Of how many messages that is remembered at most; the oldest are forgotten first.
	RememberMessages int `toml:"remember_messages" default:"1000000" min:"1000" max:"1000000000"`
}

// History is how long, and how much, is kept of what happened: events of sessions,
// messages and deliveries, see docs/history.md.
type History struct {
	// Age at which events are forgotten.
	Keep time.Duration `toml:"keep" default:"90d" min:"1h" max:"3650d"`
	// What they may take on the disk, or in the database. Above it the oldest go before
	// their time. Some 200 bytes an event.
	MaxSize Size `toml:"max_size" default:"10GiB" min:"16MiB"`
	// What may wait in the spool while the database is away. Above it the oldest of these
	// are lost, and metrics and log say so.
	MaxBacklog Size `toml:"max_backlog" default:"256MiB" min:"1MiB" max:"64GiB"`
}

// Digest is the daily mail about the quarantine.
type Digest struct {
	// When it is sent, in this host's time zone.
	At TimeOfDay `toml:"at" default:"07:00"`
	// Its sender.
	From mail.Address `toml:"from" default:"(the postmaster)" example:"quarantine@example.com"`
}
