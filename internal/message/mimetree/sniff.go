package mimetree

import (
	"bytes"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// Types that Sniff tells apart beside those of the library.
const (
	octetStream = "application/octet-stream"
	typeTNEF    = "application/vnd.ms-tnef"
	typeMessage = "message/rfc822"
	typeHTML    = "text/html"
)

// isoOffset is where ISO 9660 images have their mark.
const isoOffset = 0x8001

// magic is a mark at a fixed place.
type magic struct {
	offset int
	mark   string
	media  string
}

// magics are the marks that the library lacks.
var magics = []magic{
	{0, "\x78\x9f\x3e\x22", typeTNEF},
	{0, `{\rt`, "text/rtf"},
	{0, "ITSF\x03\x00\x00\x00", "application/vnd.ms-htmlhelp"},
	{7, "**ACE**", "application/x-ace-compressed"},
	{2, "-lh", "application/x-lzh-compressed"},
	{2, "-lz", "application/x-lzh-compressed"},
	{isoOffset, "CD001", "application/x-iso9660-image"},
	{isoOffset, "BEA01", "application/x-iso9660-image"},
	{0, "conectix", "application/x-vhd"},
	{0, "vhdxfile", "application/x-vhdx"},
	{0, "KDMV", "application/x-vmdk"},
	{0, "MSWIM\x00\x00\x00", "application/x-ms-wim"},
	{0, "\x60\xea", "application/x-arj"},
	{0, "MZ", "application/vnd.microsoft.portable-executable"},
	{0, "\x4c\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"},
	{0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "application/onenote"},
	{0, "PK\x03\x04", "application/zip"},
	{0, "PK\x05\x06", "application/zip"},
	{0, "PK\x07\x08", "application/zip"},
	{0, "Rar!\x1a\x07", "application/x-rar-compressed"},
	{0, "REGEDIT4", "text/x-ms-regedit"},
	{0, "Windows Registry Editor", "text/x-ms-regedit"},
}

// hint is text by which scripts and their like are known. All marks have to
// stand in the beginning of the text, lower case.
type hint struct {
	media string
	marks []string
}

var hints = []hint{
	{"application/hta", []string{"<hta:application"}},
	{"text/x-wsf", []string{"<job", "<script"}},
	{"text/x-scriptlet", []string{"<scriptlet"}},
	{"application/x-mswinurl", []string{"[internetshortcut]"}},
	{"application/x-desktop", []string{"[desktop entry]"}},
	{"application/x-search-ms", []string{"<searchconnectordescription"}},
	{"application/x-settingcontent", []string{"<pcsettings"}},
	{"text/x-msdos-batch", []string{"@echo off"}},
	{"text/x-msdos-batch", []string{"%~dp0"}},
	{"text/vbscript", []string{"createobject(", "wscript."}},
	{"text/vbscript", []string{"createobject(", "dim "}},
	{"text/vbscript", []string{"on error resume next", "dim "}},
	{"text/vbscript", []string{"execute(", "chr("}},
	{"text/javascript", []string{"new activexobject"}},
	{"text/javascript", []string{"wscript.", "var "}},
	{"text/javascript", []string{"eval(", "unescape("}},
	{"text/javascript", []string{"eval(", "fromcharcode"}},
	{"text/x-powershell", []string{"new-object ", "$"}},
	{"text/x-powershell", []string{"invoke-expression"}},
	{"text/x-powershell", []string{"iex(", "net.webclient"}},
	{"text/x-powershell", []string{"powershell", "-encodedcommand"}},
	{"text/x-powershell", []string{"[system.", "$env:"}},
	{typeHTML, []string{"<html"}},
	{typeHTML, []string{"<script"}},
	{typeHTML, []string{"<body"}},
	{typeHTML, []string{"<!doctype html"}},
	{typeHTML, []string{"<meta", "http-equiv"}},
	{typeHTML, []string{"<iframe"}},
}

// Sniff returns the media types that the beginning of a file looks like, the
// likeliest first, at least one: application/octet-stream for the unknown. It is
// given more than one type where the file would open as several: an archive
// behind something else, a PDF behind junk, HTML that begins like text. A disk
// image is known by its bytes from 32769 on. What is in an archive or a document
// decides for others: a document with macros is a document here.
func Sniff(start []byte) []string {
	var list []string
	for _, m := range magics {
		if len(start) >= m.offset+len(m.mark) && string(start[m.offset:m.offset+len(m.mark)]) == m.mark {
			list = addString(list, m.media)
		}
	}
	found, _, _ := strings.Cut(mimetype.Detect(start).String(), ";")
	switch {
	case len(list) == 0:
		list = append(list, found)
	case strings.HasPrefix(list[0], "application/zip") && found != octetStream:
		// The library looks into a zip for what kind it is.
		list[0] = found
		list = addString(list, "application/zip")
	case found != octetStream && !strings.HasPrefix(found, "text/"):
		list = addString(list, found)
	}
	if isPlainish(list[0]) {
		list = sniffText(list, start)
	}
	return polyglots(list, start)
}

func isPlainish(media string) bool {
	return strings.HasPrefix(media, "text/") && media != "text/rtf" || media == octetStream || strings.HasSuffix(media, "xml") || media == "application/json"
}

// sniffText looks for scripts and messages in what looks like text.
func sniffText(list []string, start []byte) []string {
	if isMessageStart(start) {
		return append([]string{typeMessage}, list...)
	}
	text := asciiLower(start)
	if list[0] == octetStream && bytes.IndexByte(text, 0) >= 0 {
		return list
	}
	for _, h := range hints {
		all := true
		for _, m := range h.marks {
			all = all && bytes.Contains(text, []byte(m))
		}
		if !all || slices.Contains(list, h.media) {
			continue
		}
		if h.media == typeHTML {
			list = append(list, h.media) // so that what is said first stays first
		} else {
			list = append([]string{h.media}, list...)
		}
	}
	return list
}

// asciiLower returns a text in lower case, UTF-16 reduced to what is ASCII.
func asciiLower(start []byte) []byte {
	if len(start) >= 2 && (start[0] == 0xff && start[1] == 0xfe || start[0] == 0xfe && start[1] == 0xff) {
		start = bytes.ReplaceAll(start[2:], []byte{0}, nil)
	}
	return bytes.ToLower(start)
}

// polyglots adds what else a file opens as.
func polyglots(list []string, start []byte) []string {
	// Readers take a PDF whose mark stands in the first 1024 bytes.
	if bytes.Contains(start[:min(len(start), 1024)], []byte("%PDF-")) {
		list = addString(list, "application/pdf")
	}
	if i := bytes.Index(start, []byte("PK\x03\x04\x14\x00")); i > 0 && !slices.Contains(list, "application/zip") && !slices.ContainsFunc(list, isZipType) {
		list = addString(list, "application/zip")
	}
	if i := bytes.Index(start, []byte("Rar!\x1a\x07")); i > 0 {
		list = addString(list, "application/x-rar-compressed")
	}
	return list
}

// isZipType reports formats that are zip files.
func isZipType(media string) bool {
	return strings.Contains(media, "openxmlformats") || strings.Contains(media, "opendocument") || strings.Contains(media, "java-archive") ||
		strings.Contains(media, "android.package") || strings.Contains(media, "epub")
}

// messageFields begin messages, lower case.
var messageFields = []string{
	"received:", "return-path:", "delivered-to:", "from:", "to:", "date:", "subject:", "message-id:", "mime-version:", "x-", "reply-to:", "sender:",
	"dkim-signature:", "arc-", "authentication-results:", "content-type:", "cc:", "importance:", "thread-",
}

// isMessageStart reports that a text begins with the header of a message: three
// fields, two of them of those that messages begin with, and not more lines that
// are no fields.
func isMessageStart(start []byte) bool {
	start = bytes.TrimPrefix(start, []byte("\xef\xbb\xbf"))
	start = bytes.TrimLeft(start[:min(len(start), 2048)], "\r\n")
	known, fields, others := 0, 0, 0
	for i, line := range bytes.SplitN(start, []byte("\n"), 40) {
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' || i == 0 && isMboxLine(line) {
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isName(line[:colon]) {
			others++
			continue
		}
		fields++
		name := strings.ToLower(string(line[:colon+1]))
		if slices.ContainsFunc(messageFields, func(f string) bool { return strings.HasPrefix(name, f) }) {
			known++
		}
	}
	return fields >= 3 && known >= 2 && others <= fields
}
