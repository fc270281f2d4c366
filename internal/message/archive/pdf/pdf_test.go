package pdf

import (
	"bufio"
	"bytes"
	stdlzw "compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// collected is what a scan found.
type collected struct {
	kinds   map[Kind]bool
	links   []string
	scripts []string
	files   []string
}

func scan(t testing.TB, content []byte) *collected {
	t.Helper()
	c := &collected{kinds: map[Kind]bool{}}
	decoded := int64(0)
	err := Scan(bytes.NewReader(content), int64(len(content)), Events{
		Found:  func(k Kind, _ string) { c.kinds[k] = true },
		Link:   func(kind, url string) { c.links = append(c.links, kind+" "+url) },
		Script: func(text []byte) error { c.scripts = append(c.scripts, string(text)); return nil },
		File: func(names []string, open func() (io.Reader, error)) error {
			r, err := open()
			if err != nil {
				return nil
			}
			b, _ := io.ReadAll(io.LimitReader(r, 1<<20)) // what could be read
			c.files = append(c.files, strings.Join(names, ",")+"="+string(b))
			return nil
		},
		Decoded: func(n int64) bool { decoded += n; return decoded < 64<<20 },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFiltersDecode(t *testing.T) {
	const want = "some words, some more words, some words again and again"
	var packed bytes.Buffer
	w := stdlzw.NewWriter(&packed, stdlzw.MSB, 8)
	if _, err := io.WriteString(w, want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		filter name
		in     string
	}{
		{"ASCIIHexDecode", fmt.Sprintf("%x>", want)},
		{"AHx", fmt.Sprintf(" %X \n>junk", want)},
		{"RunLengthDecode", string(rune(len(want)-1)) + want + "\x80"},
		// Codes stay 9 bits long for so short a text, where both kinds of LZW agree.
		{"LZWDecode", packed.String()},
		{"Crypt", want},
	} {
		r, err := decode(strings.NewReader(test.in), []name{test.filter})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); string(got) != want {
			t.Errorf("%s: %q, error %v", test.filter, got, err)
		}
	}
	// The example of ISO 32000-1 §7.4.4.2.
	r := newLZW(bufio.NewReader(strings.NewReader("\x80\x0b\x60\x50\x22\x0c\x0c\x85\x01")))
	if got, err := io.ReadAll(r); string(got) != "-----A---B" || err != nil {
		t.Errorf("%q, error %v", got, err)
	}
}

// encrypted makes a file whose script and attachment are encrypted with the key of
// the empty password.
func encrypted(t testing.TB, version, revision int) []byte {
	t.Helper()
	const id, permissions = "0123456789abcdef", -4
	owner := strings.Repeat("o", 32)
	c := &crypt{strings: methodRC4, streams: methodRC4, files: methodRC4}
	dict, u := "", ""
	switch revision {
	case 2, 3, 4:
		length := map[int]int{2: 5, 3: 16, 4: 16}[revision]
		h := md5.New()
		io.WriteString(h, padding+owner)
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(0xfffffffc)))
		io.WriteString(h, id)
		c.key = h.Sum(nil)
		if revision >= 3 {
			for range 50 {
				sum := md5.Sum(c.key[:length])
				c.key = sum[:]
			}
		}
		c.key = c.key[:length]
		u = string(userMD5(c.key, []byte(id), int64(revision))) + strings.Repeat("\x00", 16)
		if revision == 4 {
			c.strings, c.streams, c.files = methodAES128, methodAES128, methodAES128
			dict = "/CF<</StdCF<</CFM/AESV2>>>>/StmF/StdCF/StrF/StdCF"
		} else {
			dict = fmt.Sprintf("/Length %d", length*8)
		}
	case 5, 6:
		c.key = []byte(strings.Repeat("k", 32))
		c.strings, c.streams, c.files = methodAES256, methodAES256, methodAES256
		hash := func(salt string) []byte {
			sum := sha256.Sum256([]byte(salt))
			if revision == 6 {
				return hash2B(sum[:])
			}
			return sum[:]
		}
		u = string(hash("validate")) + "validate" + "keysalt!"
		block, err := aes.NewCipher(hash("keysalt!"))
		if err != nil {
			t.Fatal(err)
		}
		ue := make([]byte, 32)
		cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(ue, c.key)
		dict = fmt.Sprintf("/CF<</StdCF<</CFM/AESV3>>>>/StmF/StdCF/StrF/StdCF/UE<%x>", ue)
	}
	seal := func(m method, num int, plain string) string {
		key := c.objectKey(m, num, 0)
		if m == methodRC4 {
			out := make([]byte, len(plain))
			s, _ := rc4.NewCipher(key)
			s.XORKeyStream(out, []byte(plain))
			return string(out)
		}
		pad := 16 - len(plain)%16
		b := append([]byte(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
		block, _ := aes.NewCipher(key)
		iv := []byte("initialisation!!")
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(b, b)
		return string(iv) + string(b)
	}
	data := seal(c.files, 2, "attachment")
	return fmt.Appendf(nil, "%%PDF-1.6\n1 0 obj <</S/JavaScript/JS<%x>>> endobj\n2 0 obj <</Type/EmbeddedFile/Length %d>>stream\n%s\nendstream endobj\n"+
		"9 0 obj <</Filter/Standard/V %d/R %d/P %d/O<%x>/U<%x>%s>> endobj\ntrailer <</Encrypt 9 0 R/ID[<%x><%x>]>>\n",
		seal(c.strings, 1, "script()"), len(data), data, version, revision, permissions, owner, u, dict, id, id)
}

func TestFilesForEverybodyAreDecrypted(t *testing.T) {
	for _, v := range []struct{ version, revision int }{{1, 2}, {2, 3}, {4, 4}, {5, 5}, {5, 6}} {
		c := scan(t, encrypted(t, v.version, v.revision))
		if c.kinds[Encrypted] || len(c.scripts) != 1 || c.scripts[0] != "script()" || len(c.files) != 1 || c.files[0] != "=attachment" {
			t.Errorf("revision %d: %+v", v.revision, c)
		}
	}
}

func TestFilesWithAPasswordAreReported(t *testing.T) {
	for _, v := range []struct{ version, revision int }{{2, 3}, {4, 4}, {5, 6}} {
		content := encrypted(t, v.version, v.revision)
		i := bytes.Index(content, []byte("/U<")) + 3
		copy(content[i:], "00000000")
		if c := scan(t, content); !c.kinds[Encrypted] {
			t.Errorf("revision %d: %+v", v.revision, c)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("%PDF-1.4\n1 0 obj <</S/JavaScript/JS(a)/OpenAction 2 0 R/EF<</F 1 0 R>>>> endobj\n2 0 obj <</S/Launch/F(x)>>\ntrailer <</Encrypt 1 0 R>>"))
	f.Add([]byte("1 0 obj <</Type/ObjStm/N 3/First 4/Filter[/AHx/A85/RL/LZW]/Length 3>>stream\n41>\nendstream"))
	f.Add(encrypted(f, 4, 4))
	f.Add(encrypted(f, 5, 6))
	f.Fuzz(func(t *testing.T, b []byte) { scan(t, b) })
}
