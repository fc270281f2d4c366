package footer

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
)

// decodeQP undoes quoted-printable (RFC 2045 §6.7), and says for each byte where the
// unit begins that it comes from. What is no escape stands for itself.
func decodeQP(raw []byte) (decoded []byte, at []int) {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '=' {
			decoded, at = append(decoded, c), append(at, i)
			i++
			continue
		}
		if n := softBreak(raw[i:]); n > 0 {
			i += n
			continue
		}
		if i+2 < len(raw) {
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi >= 0 && lo >= 0 {
				decoded, at = append(decoded, byte(hi<<4|lo)), append(at, i)
				i += 3
				continue
			}
		}
		decoded, at = append(decoded, c), append(at, i)
		i++
	}
	return decoded, at
}

// softBreak is how many bytes a soft line break takes, 0 where there is none.
func softBreak(b []byte) int {
	n := 1
	for n < len(b) && (b[n] == ' ' || b[n] == '\t') {
		n++
	}
	switch {
	case n == len(b):
		return n
	case b[n] == '\n':
		return n + 1
	case b[n] == '\r' && n+1 < len(b) && b[n+1] == '\n':
		return n + 2
	}
	return 0
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// encodeQP encodes what is put into a text, and begins with a line end. It ends with a
// soft line break where something follows in the line. open says that the text ends with
// a "=" that lacks its line end.
func encodeQP(b []byte, follows, open bool) []byte {
	var out bytes.Buffer
	if open {
		out.WriteString("\r\n")
	}
	w := quotedprintable.NewWriter(&out)
	// A bytes.Buffer takes everything.
	_, _ = w.Write(b)
	_ = w.Close()
	if follows && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteString("=\r\n")
	}
	return out.Bytes()
}

// decodeBase64 undoes base64, and says for each byte where the four characters begin
// that it comes from. It takes nothing but letters, line ends and blanks, and padding at
// the end only: what is damaged is not to be changed.
func decodeBase64(raw []byte) (decoded []byte, at []int, ok bool) {
	var group [4]byte
	n, start, padded := 0, 0, false
	for i, c := range raw {
		switch {
		case c == '\r' || c == '\n' || c == ' ' || c == '\t':
			continue
		case padded && n == 0:
			return nil, nil, false
		}
		if n == 0 {
			start = i
		}
		group[n] = c
		if n++; n < 4 {
			continue
		}
		n = 0
		var three [3]byte
		m, err := base64.StdEncoding.Decode(three[:], group[:])
		if err != nil {
			return nil, nil, false
		}
		padded = m < 3
		for _, b := range three[:m] {
			decoded, at = append(decoded, b), append(at, start)
		}
	}
	return decoded, at, n == 0
}

// lineBroken is base64 on lines of its own: RFC 2045 §6.8 wants 76 characters at most,
// and decoders pass over line ends.
func lineBroken(s string) []byte {
	var out bytes.Buffer
	out.WriteString("\r\n")
	for s != "" {
		n := min(len(s), 76)
		out.WriteString(s[:n] + "\r\n")
		s = s[n:]
	}
	return out.Bytes()
}
