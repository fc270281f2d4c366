package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

func TestTo7Bit(t *testing.T) {
	tests := []struct {
		name     string
		in, want string
	}{
		{"leaves 7-bit mail alone",
			"Subject: x\nContent-Type: text/plain\n\nbody\n",
			"Subject: x\nContent-Type: text/plain\n\nbody\n"},
		{"encodes text as quoted-printable",
			"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nSubject: x\n\nGrüße \nan = alle\n",
			"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nSubject: x\n\nGr=C3=BC=C3=9Fe=20\nan =3D alle\n"},
		{"adds the field where it is missing",
			"MIME-Version: 1.0\nContent-Type: text/html\n\nü\n",
			"MIME-Version: 1.0\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"},
		{"makes MIME of what is none",
			"Subject: x\n\nü\n",
			"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"},
		{"takes a body that only claims to be 7bit",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\nü\n",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"},
		{"replaces a folded field",
			"MIME-Version: 1.0\nContent-Transfer-Encoding:\n 8BIT\nX: y\n\nü\n",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\nX: y\n\n=C3=BC\n"},
		{"makes a wrong label right",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nplain\n",
			"MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\nplain\n"},
		{"encodes other types as base64",
			"MIME-Version: 1.0\nContent-Type: application/pdf\nContent-Transfer-Encoding: binary\n\n\xff\xfe",
			"MIME-Version: 1.0\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n//4=\n"},
		{"encodes text with odd line ends as base64",
			"MIME-Version: 1.0\nContent-Type: text/plain\n\nü\ra\n",
			"MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nw7wNYQ0K\n"},
		{"adds no line end to text that has none",
			"MIME-Version: 1.0\nContent-Type: text/plain\n\nü",
			"MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC=\n"},
		{"encodes long lines of a binary part",
			"MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: binary\n\n" + strings.Repeat("x", 999) + "\n",
			"MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat(strings.Repeat("x", 75)+"=\n", 13) + strings.Repeat("x", 24) + "\n"},
		{"encodes only the parts that need it",
			multipartMail("8bit", "Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nü", "\nplain", "Content-Type: image/png\n\n\xff"),
			multipartMail("7bit", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC", "\nplain",
				"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n/w==")},
		{"encodes a part without fields",
			multipartMail("8bit", "\nü"),
			multipartMail("7bit", "Content-Transfer-Encoding: quoted-printable\n\n=C3=BC")},
		{"keeps preamble and epilogue",
			"Content-Type: multipart/mixed; boundary=b\n\nhello\n--b\n\nü\n--b--\nbye\n--b\nstill epilogue\n",
			"Content-Type: multipart/mixed; boundary=b\n\nhello\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--b--\nbye\n--b\nstill epilogue\n"},
		{"takes a boundary with white space behind it",
			"Content-Type: multipart/mixed; boundary=b\n\n--b  \n\nü\n--b--\t\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b  \nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--b--\t\n"},
		{"takes a boundary that begins like an outer one",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nü\n--bb--\n--b\n\nö\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--bb--\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=B6\n--b--\n"},
		{"takes an inner multipart that an outer boundary ends",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nü\n--b\n\nö\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=B6\n--b--\n"},
		{"takes a multipart that the end of the message ends",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nü\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n"},
		{"goes into attached messages",
			multipartMail("8bit", "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: inner\nMIME-Version: 1.0\nContent-Type: text/plain\n\nü"),
			multipartMail("7bit", "Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: inner\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC")},
		{"goes into the messages of a digest",
			"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: inner\n\nü\n--b--\n",
			"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: inner\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n--b--\n"},
		{"encodes message/global",
			multipartMail("7bit", "Content-Type: message/global\n\nSubject: ü\n\nx"),
			multipartMail("7bit", "Content-Type: message/global\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogw7wNCg0KeA==")},
		{"leaves a signed message alone that is 7 bit",
			"DKIM-Signature: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nplain\n",
			"DKIM-Signature: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nplain\n"},
		{"encodes beside a signed part that is 7 bit",
			multipartMail("8bit", "Content-Type: multipart/signed; boundary=c\nContent-Transfer-Encoding: 8bit\n\n--c\n\nplain\n--c--", "\nü"),
			multipartMail("7bit", "Content-Type: multipart/signed; boundary=c\nContent-Transfer-Encoding: 8bit\n\n--c\n\nplain\n--c--",
				"Content-Transfer-Encoding: quoted-printable\n\n=C3=BC")},
		{"leaves encoded parts alone",
			multipartMail("7bit", "Content-Transfer-Encoding: base64\n\n/w==", "Content-Transfer-Encoding: x-uuencode\n\nbegin 644 x"),
			multipartMail("7bit", "Content-Transfer-Encoding: base64\n\n/w==", "Content-Transfer-Encoding: x-uuencode\n\nbegin 644 x")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := To7Bit(content(lines(tt.in), mail.Edits{}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(lines(tt.want), all(t, out)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// multipartMail joins parts, each with its header section.
func multipartMail(encoding string, parts ...string) string {
	var b strings.Builder
	b.WriteString("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b b\"\nContent-Transfer-Encoding: " + encoding + "\n\n")
	for _, p := range parts {
		b.WriteString("--b b\n" + p + "\n")
	}
	b.WriteString("--b b--\n")
	return b.String()
}

func TestTo7BitRefuses(t *testing.T) {
	deep := strings.Repeat("Content-Type: message/rfc822\n\n", max7BitDepth+1)
	tests := []struct {
		name string
		in   string
		want error
	}{
		{"DKIM-signed mail", "dkim-signature: x\n\nü\n", ErrSigned},
		{"sealed mail", "ARC-Message-Signature: x\n\nü\n", ErrSigned},
		{"multipart/signed", "Content-Type: multipart/signed; boundary=b\n\n--b\n\nü\n--b--\n", ErrSigned},
		{"a message within multipart/signed", "Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\nü\n--b--\n", ErrSigned},
		{"an 8-bit header", "Subject: ü\n\nx\n", ErrHeaderUTF8},
		{"an 8-bit header of a part", multipartMail("8bit", "Content-Type: text/plain; name=\"ü\"\n\nx"), ErrHeaderUTF8},
		{"an 8-bit header of an attached message", multipartMail("8bit", "Content-Type: message/rfc822\n\nSubject: ü\n\nx"), ErrHeaderUTF8},
		{"two encodings", "Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit\n\nü\n", ErrCannotConvert},
		{"two types", "Content-Type: text/plain\nContent-Type: text/html\n\nü\n", ErrCannotConvert},
		{"an unknown encoding", "Content-Transfer-Encoding: x-odd\n\nü\n", ErrCannotConvert},
		{"8 bit in base64", "Content-Transfer-Encoding: base64\n\nü\n", ErrCannotConvert},
		{"a type that does not parse", "Content-Type: text/plain; charset=\"x\n\nü\n", ErrCannotConvert},
		{"a line that is no field", "Subject: x\nno field\nX: y\n\nü\n", ErrCannotConvert},
		{"a multipart without boundary", "Content-Type: multipart/mixed\n\n--b\n\nü\n--b--\n", ErrCannotConvert},
		{"a multipart with a split boundary", "Content-Type: multipart/mixed; boundary*0=b\n\n--b\n\nü\n--b--\n", ErrCannotConvert},
		{"a multipart that claims an encoding", "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nü\n--b--\n", ErrCannotConvert},
		{"a line that is nearly a boundary", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nü\n--bcd\n\n--b--\n", ErrCannotConvert},
		{"an 8-bit preamble", "Content-Type: multipart/mixed; boundary=b\n\nü\n--b\n\nx\n--b--\n", ErrCannotConvert},
		{"an 8-bit epilogue", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\nü\n", ErrCannotConvert},
		{"an 8-bit delivery status", "Content-Type: message/delivery-status\n\nü\n", ErrCannotConvert},
		{"a partial message", "Content-Type: message/partial; id=x; number=1\n\nü\n", ErrCannotConvert},
		{"too deep a structure", deep + "ü", ErrCannotConvert},
		{"too many parts", multipartMail("8bit", slicesOf("\nü", max7BitParts+1)...), ErrCannotConvert},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := To7Bit(content(lines(tt.in), mail.Edits{})); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func slicesOf(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func TestTo7BitSeesTheEdits(t *testing.T) {
	in := lines("X-Forged: ü\nSubject: x\n\nü\n")
	c := content(in, mail.Edits{Prepend: []byte("Received: y\r\n"), Cut: []mail.Span{{Start: 0, End: int64(strings.Index(in, "Subject"))}}})
	out, err := To7Bit(c)
	if err != nil {
		t.Fatal(err)
	}
	want := lines("DKIM-Signature: z\nReceived: y\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n")
	if got := all(t, out.Prepend([]byte("DKIM-Signature: z\r\n"))); got != want {
		t.Errorf("got\n%s want\n%s", got, want)
	}
}

func TestTo7BitOfABigBodyIsStreamed(t *testing.T) {
	text := strings.Repeat("Grüße an alle, die das hier lesen. \r\n", 100_000)
	blob := strings.Repeat("\x00\x01\xfe\xff\r\n\r\n--", 300_000)
	for mediaType, in := range map[string]string{"text/plain": text, "application/octet-stream": blob, "text/plain; x=odd": text + "\r"} {
		out, err := To7Bit(content("Content-Type: "+mediaType+"\r\n\r\n"+in, mail.Edits{}))
		if err != nil {
			t.Fatal(err)
		}
		if out.Size() != -1 {
			t.Errorf("size %d is known before reading", out.Size())
		}
		got := leaves(t, all(t, out), 0)
		if len(got) != 1 || got[0] != in {
			t.Errorf("%s: decoded body differs", mediaType)
		}
	}
}

// leaves decodes every leaf of a message, by means that share nothing with To7Bit
// but the splitting of headers.
func leaves(t *testing.T, msg string, depth int) []string {
	if depth > max7BitDepth+1 {
		return []string{msg}
	}
	section, body, _ := strings.Cut(msg, "\r\n\r\n")
	if strings.HasPrefix(msg, "\r\n") {
		section, body = "", msg[2:]
	}
	h := ParseHeader([]byte(section + "\r\n"))
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	encoding := strings.ToLower(h.Get("Content-Transfer-Encoding"))
	switch {
	case err == nil && strings.HasPrefix(mediaType, "multipart/") && params["boundary"] != "":
		var list []string
		r := multipart.NewReader(strings.NewReader(body), params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return list
			}
			var raw bytes.Buffer
			for _, name := range []string{"Content-Type", "Content-Transfer-Encoding"} {
				if v := p.Header.Get(name); v != "" {
					raw.WriteString(name + ": " + v + "\r\n")
				}
			}
			if mediaType == "multipart/digest" && p.Header.Get("Content-Type") == "" {
				raw.WriteString("Content-Type: message/rfc822\r\n")
			}
			raw.WriteString("\r\n")
			if _, err := raw.ReadFrom(p); err != nil {
				return list
			}
			list = append(list, leaves(t, raw.String(), depth+1)...)
		}
	case mediaType == "message/rfc822":
		return leaves(t, body, depth+1)
	}
	var r io.Reader = strings.NewReader(body)
	switch encoding {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	decoded, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decode %s: %v\n%q", encoding, err, body)
	}
	return []string{string(decoded)}
}

// checkSevenBit: nothing is left that a host without 8BITMIME could not take.
func checkSevenBit(t *testing.T, in, out string) {
	t.Helper()
	if has8Bit([]byte(out)) || strings.Contains(out, "\x00") && !strings.Contains(in, "\x00") {
		t.Errorf("not 7 bit: %q", out)
	}
	if strings.Count(out, "\n") != strings.Count(out, "\r\n") && strings.Count(in, "\n") == strings.Count(in, "\r\n") {
		t.Errorf("lone LF in %q", out)
	}
}

func FuzzTo7Bit(f *testing.F) {
	for _, s := range []string{
		multipartMail("8bit", "Content-Type: text/plain\n\nü", "Content-Type: image/png\n\n\xff"),
		multipartMail("8bit", "Content-Type: message/rfc822\n\nSubject: x\n\nü "),
		"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\nü\n--b--\nepilogue\n",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nü\n--b\n--b--",
		"Content-Type: text/plain\n\nü \n.\n=\n \t\nFrom x\n",
		"\nü\r\n\r", "Content-Type: application/x\n\n\x00\xff",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b\n\n\n--b--",
	} {
		f.Add(lines(s))
	}
	f.Fuzz(func(t *testing.T, in string) {
		out, err := To7Bit(content(in, mail.Edits{}))
		if err != nil {
			if !errors.Is(err, ErrSigned) && !errors.Is(err, ErrHeaderUTF8) && !errors.Is(err, ErrCannotConvert) {
				t.Fatal(err)
			}
			return
		}
		got := all(t, out)
		checkSevenBit(t, in, got)
		if strings.Contains(strings.ReplaceAll(in, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(in, "\r\n", ""), "\r") {
			// The reader of the standard library takes LF for a line end.
			return
		}
		if len(in) == len(got) {
			return
		}
		if diff := cmp.Diff(leaves(t, in, 0), leaves(t, got, 0)); diff != "" {
			t.Errorf("decoded leaves (-before +after):\n%s\nfrom %q\nto   %q", diff, in, got)
		}
	})
}

func BenchmarkTo7Bit(b *testing.B) {
	in := lines("MIME-Version: 1.0\nContent-Type: text/plain\n\n") + strings.Repeat("Grüße an alle, die das hier lesen.\r\n", 100)
	c := content(in, mail.Edits{})
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		out, err := To7Bit(c)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := out.Reader().WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
