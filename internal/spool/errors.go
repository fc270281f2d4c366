package spool

import (
	"errors"

	"gatepost/internal/mail"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrLocked says that another process (or another Spool of this one) has the
	// directory open.
	ErrLocked = errors.New("spool is in use by another process")
	// ErrNotFound says that there is no such message, item or setting.
	ErrNotFound = errors.New("not in the spool")
	// ErrCorrupt says that a record was damaged and has been set aside.
	ErrCorrupt = errors.New("spool record is damaged")
	// ErrClosed says that the spool was closed.
	ErrClosed = errors.New("spool is closed")
	// ErrNoSpace says that the disk is full or below its reserve. Its SMTP reply
	// is mail.ReplyNoSpace.
	ErrNoSpace error = noSpaceError{}
	// ErrNotDurable says that a write or a sync failed, so that what was asked
	// for cannot be promised. Its SMTP reply is mail.ReplyLocalError.
	ErrNotDurable error = notDurableError{}
)

type noSpaceError struct{}

func (noSpaceError) Error() string { return "not enough disk space" }

// SMTPReply is what a client is told.
func (noSpaceError) SMTPReply() mail.ReplyKey { return mail.ReplyNoSpace }

type notDurableError struct{}

func (notDurableError) Error() string { return "spool cannot write to disk" }

// SMTPReply is what a client is told.
func (notDurableError) SMTPReply() mail.ReplyKey { return mail.ReplyLocalError }
