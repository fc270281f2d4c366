package textview

import (
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf16"
)

// wide is UTF-16 of either order.
func wide(s string, little bool) string {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if little {
			out = append(out, byte(u), byte(u>>8))
		} else {
			out = append(out, byte(u>>8), byte(u))
		}
	}
	return string(out)
}

func TestEveryCharsetIsRead(t *testing.T) {
	for _, tt := range []struct{ name, kind, body, shown, charset, symbols string }{
		{"ASCII", "text/plain", "hello", "hello", "us-ascii", ""},
		{"UTF-8 as declared", "text/plain; charset=UTF-8", "grün", "grün", "utf-8", ""},
		{"UTF-8 without a word about it", "text/plain", "grün", "grün", "utf-8", ""},
		{"Latin-1", "text/plain; charset=iso-8859-1", "gr\xfcn", "grün", "windows-1252", ""},
		{"8-bit without a word about it", "text/plain", "gr\xfcn \x80", "grün €", "windows-1252", ""},
		{"UTF-8 that is called ASCII", "text/plain; charset=us-ascii", "grün", "grün", "utf-8", "charset"},
		{"Latin-1 that is called UTF-8", "text/plain; charset=utf-8", "gr\xfcn", "grün", "windows-1252", "charset"},
		{"UTF-8 that is called Latin-1", "text/plain; charset=iso-8859-1", "grün", "grün", "utf-8", "charset"},
		{"broken UTF-8", "text/plain; charset=utf-8", "grün grün grün\xff", "grün grün grün\ufffd", "utf-8", "charset"},
		{"a charset that nobody knows", "text/plain; charset=x-martian", "gr\xfcn", "grün", "windows-1252", "charset"},
		{"KOI8-R", "text/plain; charset=koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет", "koi8-r", ""},
		{"Shift JIS", "text/plain; charset=Shift_JIS", "\x93\xfa\x96\x7b", "日本", "shift_jis", ""},
		{"ISO-2022-JP", "text/plain; charset=ISO-2022-JP", "\x1b$BF|K\\\x1b(B", "日本", "iso-2022-jp", ""},
		{"ISO-2022-KR", "text/plain; charset=ISO-2022-KR", "\x1b$)C\r\n\x0eGQ19\x0f", "한국", "iso-2022-kr", ""},
		{"GB18030", "text/plain; charset=gb18030", "\xc4\xe3\xba\xc3", "你好", "gb18030", ""},
		{"HZ", "text/plain; charset=hz-gb-2312", "~{VPND~}", "中文", "hz-gb-2312", ""},
		{"a code page of DOS", "text/plain; charset=cp437", "gr\x81n", "grün", "cp437", ""},
		{"UTF-7", "text/plain; charset=utf-7", "+ADw-b+AD4- gr+APw-n 1 +- 1", "<b> grün 1 + 1", "utf-7", "utf7"},
		{"UTF-16 as declared", "text/plain; charset=utf-16le", wide("buy viagra", true), "buy viagra", "utf-16le", ""},
		{"UTF-16 without a mark is of the order that makes sense", "text/plain; charset=utf-16", wide("buy viagra", true), "buy viagra", "utf-16le", ""},
		{"UTF-16 with a mark and another name", "text/plain; charset=us-ascii", "\xfe\xff" + wide("buy viagra", false), "buy viagra", "utf-16be", "utf16"},
		{"UTF-16 without any word about it", "text/plain", wide("buy viagra", true), "buy viagra", "utf-16le", "utf16"},
		{"some zero bytes do not make it UTF-16", "text/plain", strings.Repeat("abcdefghijk\x00", 6), strings.Repeat("abcdefghijk", 6), "us-ascii", ""},
		{"UTF-8 with a mark", "text/plain; charset=iso-8859-1", "\xef\xbb\xbfgrün", "grün", "utf-8", ""},
		{"UTF-32", "text/plain", "\xff\xfe\x00\x00h\x00\x00\x00i\x00\x00\x00", "hi", "utf-32le", ""},
		{"UTF-32 as declared", "text/plain; charset=utf-32be", "\x00\x00\x00h\x00\x00\x00i", "hi", "utf-32be", ""},
		{"HTML that says it is UTF-16 and is not", "text/html", `<meta charset="utf-16">grün`, "grün", "utf-8", ""},
		{"HTML that says nothing useful", "text/html", `<meta charset> charset = "" gr` + "\xfcn", `charset = "" grün`, "windows-1252", ""},
		{"what HTML says of itself", "text/html", `<meta http-equiv=Content-Type content="text/html; charset=koi8-r">` + "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет", "koi8-r", ""},
		{"the header counts more than that", "text/html; charset=windows-1251", `<meta charset=koi8-r>` + "\xcf\xf0\xe8\xe2\xe5\xf2", "Привет", "windows-1251", ""},
		{"HTML in UTF-7", "text/html; charset=utf-7", "+ADw-p+AD4-vi+ADw-b+AD4-agra", "viagra", "utf-7", "utf7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			msg := "Subject: x\r\nContent-Type: " + tt.kind + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(tt.body)) + "\r\n"
			v := viewBody(t, body(msg), Limits{})
			got := first(t, v)
			if got.Shown != tt.shown || got.Charset != tt.charset || symbols(v) != tt.symbols {
				t.Errorf("got %q in %s, findings %v", got.Shown, got.Charset, v.Findings)
			}
		})
	}
}

func TestTagsInUTF7ThatIsNotDeclaredAreReadToo(t *testing.T) {
	v := view(t, "Content-Type: text/plain\n\n+ADw-a href+AD0-http://evil.com/+AD4-x+ADw-/a+AD4-")
	if len(v.Texts) != 2 || v.Texts[1].Shown != "x" || v.Texts[1].Main || symbols(v) != "utf7" {
		t.Errorf("%+v %v", v.Texts, v.Findings)
	}
}

func TestFieldsAreDecodedAsProgramsShowThem(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"plain", "Hello", "Hello"},
		{"a word in Q", "=?iso-8859-1?Q?gr=FCn_ist?= gut", "grün ist gut"},
		{"a word in B", "=?UTF-8?B?Z3LDvG4=?=", "grün"},
		{"a character that is cut in two", "=?UTF-8?B?Z3LD?= =?UTF-8?B?vG4=?=", "grün"},
		{"a word with spaces in it", "=?utf-8?q?free money now?=", "free money now"},
		{"a word without end", "=?utf-8?b?ZnJlZQ", "free"},
		{"stuck together", "=?utf-8?q?fr?==?utf-8?q?ee?=", "free"},
		{"different charsets", "=?utf-8?q?a=C3=BC?= =?iso-8859-1?q?=FCb?=", "aüüb"},
		{"raw 8-bit", "gr\xfcn", "grün"},
		{"raw UTF-8", "grün", "grün"},
		{"an unknown charset", "=?x-y?q?fr=65e?=", "free"},
		{"no words", "=? =?? a=?b", "=? =?? a=?b"},
		{"a language", "=?utf-8*en?q?free?=", "free"},
		{"folded", "a\n b", "a b"},
		{"zero-width characters", "=?utf-8?q?vi=E2=80=8Bagra?=", "viagra"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if v := view(t, "Subject: "+tt.value+"\n\n"); v.Subject != tt.want {
				t.Errorf("got %q, want %q", v.Subject, tt.want)
			}
		})
	}
	v := view(t, "From: =?utf-8?q?J=C3=B6e?= <joe@example.com>\nReply-To: x@y.example\nFrom: two@example.com\n\n")
	if v.From != "Jöe <joe@example.com>, two@example.com" || v.ReplyTo != "x@y.example" {
		t.Errorf("%q %q", v.From, v.ReplyTo)
	}
}

func TestFlowedTextIsJoined(t *testing.T) {
	v := view(t, "Content-Type: text/plain; format=flowed; DelSp=yes\n\nSee http://evil.com/ver \nylong. \nNext\n> quoted \n> text\nend \n\n-- \nsig\n")
	if got := first(t, v).Shown; got != "See http://evil.com/verylong.Next\n> quotedtext\nend\n-- \nsig" && !strings.HasPrefix(got, "See http://evil.com/verylong.") {
		t.Errorf("%q", got)
	}
	v = view(t, "Content-Type: text/plain; format=flowed\n\none \ntwo\n> a \n> b\n>> c\n")
	if got := first(t, v).Shown; got != "one two\n> a b\n>> c" {
		t.Errorf("%q", got)
	}
}

func TestInvisibleCharactersAreFound(t *testing.T) {
	for _, tt := range []struct{ name, text, symbols string }{
		{"words split by zero-width spaces", "v\u200bi\u200ba\u200bgra", "invisible"},
		{"words that run backwards", "\u202eelif.txt", "direction"},
		{"Cyrillic letters in Latin words", "p\u0430ypal b\u0430nk s\u0435cure", "mixed-words"},
		{"hyphenation", "Donau\u00addampf\u00adschiff\u00adfahrt", ""},
		{"padding behind a teaser", strings.Repeat("\u200c\u00a0", 80), ""},
		{"emoji and Persian", "👨\u200d👩\u200d👧 می\u200cخواهم", ""},
		{"languages side by side", "Привет, world! α and β", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := view(t, "Content-Type: text/plain; charset=utf-8\n\n"+tt.text)
			if symbols(v) != tt.symbols {
				t.Errorf("%v", v.Findings)
			}
		})
	}
}
