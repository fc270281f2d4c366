package mimetree

import (
	"fmt"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Symbol is one thing that Read can find. The names are stable: rules and
// statistics refer to them.
type Symbol struct {
	Name   string
	Result mail.Result
	// Ambiguous says that programs would disagree about what the message holds.
	Ambiguous bool
	Meaning   string
}

// Symbols returns everything that Read can find: first what makes a message
// ambiguous, then what could not be read, then what is merely odd.
func Symbols() []Symbol {
	list := make([]Symbol, len(symbols))
	copy(list, symbols)
	return list
}

const (
	symDuplicate   = "duplicate-field"
	symHidden      = "hidden-field"
	symHeaderEnd   = "header-end"
	symBareCR      = "bare-cr"
	symNUL         = "nul"
	symType        = "content-type"
	symBoundary    = "boundary"
	symInterleaved = "interleaved"
	symUndeclared  = "undeclared-multipart"
	symEncoded     = "encoded-multipart"
	symEncoding    = "transfer-encoding"
	symBase64      = "base64"
	symQuoted      = "quoted-printable"
	symNames       = "file-name"

	symPartial     = "partial-message"
	symTNEF        = "damaged-tnef"
	symLimitDepth  = "limit-depth"
	symLimitParts  = "limit-parts"
	symLimitHeader = "limit-header"
	symLimitField  = "limit-field"
	symLimitLines  = "limit-lines"
	symLimitWork   = "limit-work"

	symExternal  = "external-body"
	symEmbedded  = "embedded-file"
	symQuotation = "quoted-message"
	symUnclosed  = "unclosed-multipart"
	symNoParts   = "multipart-without-parts"
	symOddField  = "odd-field"
	symOddCode   = "odd-encoding"
	symAfterEnd  = "part-after-end"
)

var symbols = []Symbol{
	{symDuplicate, mail.Match, true, "a Content- field or parameter stands twice with different meanings"},
	{symHidden, mail.Match, true, "a Content- field that only some programs see: white space or control characters in front of it, no colon or two, behind a CR"},
	{symHeaderEnd, mail.Match, true, "programs disagree where the header section of a part ends"},
	{symBareCR, mail.Match, true, "a CR without LF in a header section or in front of a delimiter"},
	{symNUL, mail.Match, true, "a NUL in a header section"},
	{symType, mail.Match, true, "a Content-Type that makes no sense, with parts or encoded content behind it"},
	{symBoundary, mail.Match, true, "parts between delimiters that were not declared, or that only some programs take for the declared ones"},
	{symInterleaved, mail.Match, true, "delimiters of one multipart between those of another that it does not contain"},
	{symUndeclared, mail.Match, true, "a body with parts in it whose type is no multipart"},
	{symEncoded, mail.Match, true, "a multipart or message under a transfer encoding that RFC 2045 §6.4 forbids"},
	{symEncoding, mail.Match, true, "programs disagree about the transfer encoding"},
	{symBase64, mail.Match, true, "base64 that programs decode differently"},
	{symQuoted, mail.Match, true, "quoted-printable that programs decode differently"},
	{symNames, mail.Match, true, "file names of one part with different extensions"},

	{symPartial, mail.Unknown, false, "a fragment of a message that can only be judged together with the others (RFC 2046 §5.2.2)"},
	{symTNEF, mail.Unknown, false, "a winmail.dat that does not end as it should"},
	{symLimitDepth, mail.Unknown, false, "parts lie deeper in parts than Limits.Depth"},
	{symLimitParts, mail.Unknown, false, "more parts than Limits.Parts, or more files in one text than are listed"},
	{symLimitHeader, mail.Unknown, false, "a header section above Limits.Header"},
	{symLimitField, mail.Unknown, false, "a Content- field above Limits.Field, or too many of them or of the names in them"},
	{symLimitLines, mail.Unknown, false, "more lines that look like delimiters than Limits.Lines"},
	{symLimitWork, mail.Unknown, false, "more readings than Limits.Work allows"},

	{symExternal, mail.Clean, false, "the content is elsewhere (message/external-body)"},
	{symEmbedded, mail.Clean, false, "a file inside of text: uuencode, yEnc, BinHex"},
	{symQuotation, mail.Clean, false, "parts of another message quoted in a text"},
	{symUnclosed, mail.Clean, false, "a multipart without its closing delimiter"},
	{symNoParts, mail.Clean, false, "a multipart in which no delimiter was found"},
	{symOddField, mail.Clean, false, "a Content- field that is not as RFC 2045 wants it"},
	{symOddCode, mail.Clean, false, "a transfer encoding that nobody knows, or an encoding that is damaged in a way that makes no difference"},
	{symAfterEnd, mail.Clean, false, "parts behind the closing delimiter of their multipart"},
}

func isAmbiguity(symbol string) bool {
	for _, s := range symbols {
		if s.Name == symbol {
			return s.Ambiguous
		}
	}
	return false
}

// maxReason bounds the text of a finding.
const maxReason = 300

// note adds a finding, the first of its symbol only. Doubt about what is merely
// quoted is none.
func (b *builder) note(symbol string, p *Part, format string, args ...any) {
	if b.seen[symbol] || p != nil && p.Reading == Quoted && isAmbiguity(symbol) {
		return
	}
	b.seen[symbol] = true
	f := mail.Finding{Module: "mime", Symbol: symbol, Reason: fmt.Sprintf(format, args...)}
	for _, s := range symbols {
		if s.Name == symbol {
			f.Result = s.Result
		}
	}
	if p != nil {
		f.Reason = "part " + p.Path + ": " + f.Reason
	}
	f.Reason = message.SafeText(f.Reason, maxReason)
	b.tree.Findings = append(b.tree.Findings, f)
}
