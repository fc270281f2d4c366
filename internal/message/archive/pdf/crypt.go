package pdf

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5" // #nosec: the format's choice
	"crypto/rc4" // #nosec: the format's choice
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"io"
)

// method is how strings or streams are encrypted.
type method uint8

const (
	methodNone method = iota
	methodRC4
	methodAES128
	methodAES256
)

// crypt decrypts with the key of the empty password (ISO 32000-1 §7.6): most
// encrypted files are meant to be read by everybody and only restrict printing.
type crypt struct {
	key              []byte
	strings, streams method
	files            method
}

// padding is what passwords are filled up with (§7.6.3.3).
const padding = "\x28\xbf\x4e\x5e\x4e\x75\x8a\x41\x64\x00\x4e\x56\xff\xfa\x01\x08\x2e\x2e\x00\xb6\xd0\x68\x3e\x80\x2f\x0c\xa9\xfe\x64\x53\x69\x7a"

// decrypt sets s.crypt where the file can be read without a password, and reports
// Encrypted where it cannot.
func (s *scanner) decrypt() {
	for _, t := range s.trailers {
		v, ok := t["Encrypt"]
		if !ok {
			continue
		}
		for _, f := range s.lookup(v, 0) {
			d, ok := f.value.(dict)
			if !ok {
				continue
			}
			if c := openCrypt(d, t); c != nil {
				s.crypt = c
				return
			}
		}
		s.events.Found(Encrypted, "needs a password")
		return
	}
}

// openCrypt returns nil where the empty password is not right, or the method is
// not known.
func openCrypt(d, trailer dict) *crypt {
	version, _ := d["V"].(int64)
	c := &crypt{}
	if !c.methods(d, version) || d["Filter"] != name("Standard") {
		return nil
	}
	revision, _ := d["R"].(int64)
	u, _ := d["U"].(str)
	if revision >= 5 {
		c.key = key256(d, []byte(u), revision)
	} else {
		c.key = keyMD5(d, trailer, []byte(u), revision)
	}
	if c.key == nil {
		return nil
	}
	return c
}

// methods reads which methods are used for what.
func (c *crypt) methods(d dict, version int64) bool {
	if version == 1 || version == 2 {
		c.strings, c.streams, c.files = methodRC4, methodRC4, methodRC4
		return true
	}
	if version != 4 && version != 5 {
		return false
	}
	filters, _ := d["CF"].(dict)
	method := func(key name, otherwise method) method {
		n, ok := d[key].(name)
		if !ok {
			return otherwise
		}
		filter, _ := filters[n].(dict)
		switch filter["CFM"] {
		case name("V2"):
			return methodRC4
		case name("AESV2"):
			return methodAES128
		case name("AESV3"):
			return methodAES256
		}
		return methodNone
	}
	c.streams = method("StmF", methodNone)
	c.strings = method("StrF", methodNone)
	c.files = method("EFF", c.streams)
	return true
}

// keyMD5 makes and checks the key of revisions 2 to 4 (§7.6.3.3, algorithms 2, 4
// and 5).
func keyMD5(d, trailer dict, u []byte, revision int64) []byte {
	owner, _ := d["O"].(str)
	permissions, _ := d["P"].(int64)
	var id []byte
	if ids, ok := trailer["ID"].(array); ok && len(ids) > 0 {
		first, _ := ids[0].(str)
		id = []byte(first)
	}
	length := 5
	if bits, ok := d["Length"].(int64); ok && revision >= 3 && bits >= 40 && bits <= 128 {
		length = int(bits / 8)
	} else if d["V"] == int64(4) {
		length = 16
	}
	h := md5.New()
	io.WriteString(h, padding)
	h.Write([]byte(owner)[:min(len(owner), 32)])
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(permissions)))
	h.Write(id)
	if revision >= 4 && d["EncryptMetadata"] == keyword("false") {
		h.Write([]byte{0xff, 0xff, 0xff, 0xff})
	}
	key := h.Sum(nil)
	if revision >= 3 {
		for range 50 {
			sum := md5.Sum(key[:length])
			key = sum[:]
		}
	}
	key = key[:length]
	if len(u) < 16 || !bytes.Equal(userMD5(key, id, revision), u[:16]) {
		return nil
	}
	return key
}

// userMD5 is the beginning of the entry U that belongs to the key.
func userMD5(key, id []byte, revision int64) []byte {
	if revision < 3 {
		return rc4Bytes(key, []byte(padding))[:16]
	}
	sum := md5.Sum(append([]byte(padding), id...))
	b := sum[:]
	for i := range 20 {
		k := bytes.Clone(key)
		for j := range k {
			k[j] ^= byte(i)
		}
		b = rc4Bytes(k, b)
	}
	return b
}

func rc4Bytes(key, b []byte) []byte {
	out := make([]byte, len(b))
	if c, err := rc4.NewCipher(key); err == nil {
		c.XORKeyStream(out, b)
	}
	return out
}

// key256 makes and checks the key of revisions 5 and 6 (ISO 32000-2 §7.6.4.3.3).
func key256(d dict, u []byte, revision int64) []byte {
	ue, _ := d["UE"].(str)
	if len(u) < 48 || len(ue) < 32 {
		return nil
	}
	hash := func(salt []byte) []byte {
		sum := sha256.Sum256(salt)
		if revision == 5 {
			return sum[:]
		}
		return hash2B(sum[:])
	}
	if !bytes.Equal(hash(u[32:40]), u[:32]) {
		return nil
	}
	block, err := aes.NewCipher(hash(u[40:48]))
	if err != nil {
		return nil
	}
	key := make([]byte, 32)
	cipher.NewCBCDecrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(key, []byte(ue)[:32])
	return key
}

// hash2B is algorithm 2.B for an empty password.
func hash2B(k []byte) []byte {
	for i := 0; ; i++ {
		e := bytes.Repeat(k, 64)
		block, err := aes.NewCipher(k[:16])
		if err != nil {
			return nil
		}
		cipher.NewCBCEncrypter(block, k[16:32]).CryptBlocks(e, e)
		sum := 0
		for _, b := range e[:16] {
			sum += int(b)
		}
		switch sum % 3 {
		case 0:
			h := sha256.Sum256(e)
			k = h[:]
		case 1:
			h := sha512.Sum384(e)
			k = h[:]
		default:
			h := sha512.Sum512(e)
			k = h[:]
		}
		if i >= 63 && int(e[len(e)-1]) <= i-31 {
			return k[:32]
		}
	}
}

// objectKey is the key of one object (§7.6.2, algorithm 1).
func (c *crypt) objectKey(m method, num, gen int) []byte {
	if m == methodAES256 {
		return c.key
	}
	b := bytes.Clone(c.key)
	b = append(b, byte(num), byte(num>>8), byte(num>>16), byte(gen), byte(gen>>8))
	if m == methodAES128 {
		b = append(b, "sAlT"...)
	}
	sum := md5.Sum(b)
	return sum[:min(len(c.key)+5, 16)]
}

// text decrypts a string.
func (c *crypt) text(b []byte, num, gen int) []byte {
	out, err := io.ReadAll(c.reader(bytes.NewReader(b), c.strings, num, gen))
	if err != nil {
		return b
	}
	return out
}

// stream decrypts the data of a stream object.
func (c *crypt) stream(r io.Reader, st stream) io.Reader {
	m := c.streams
	switch typeOf(st.dict) {
	case "XRef":
		return r
	case "EmbeddedFile":
		m = c.files
	}
	return c.reader(r, m, st.num, st.gen)
}

func (c *crypt) reader(r io.Reader, m method, num, gen int) io.Reader {
	switch m {
	case methodRC4:
		if s, err := rc4.NewCipher(c.objectKey(m, num, gen)); err == nil {
			return cipher.StreamReader{S: s, R: r}
		}
	case methodAES128, methodAES256:
		if block, err := aes.NewCipher(c.objectKey(m, num, gen)); err == nil {
			return &cbcReader{r: r, block: block}
		}
	}
	return r
}

// cbcReader decrypts AES-CBC with the vector in front and padding behind.
type cbcReader struct {
	r     io.Reader
	block cipher.Block
	mode  cipher.BlockMode
	plain []byte // decrypted, not read yet; the last block is held back
	held  []byte
	buf   [4 << 10]byte
	err   error
}

func (c *cbcReader) Read(p []byte) (int, error) {
	for len(c.plain) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.fill()
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

func (c *cbcReader) fill() {
	if c.mode == nil {
		var iv [aes.BlockSize]byte
		if _, c.err = io.ReadFull(c.r, iv[:]); c.err != nil {
			c.err = io.EOF
			return
		}
		c.mode = cipher.NewCBCDecrypter(c.block, iv[:])
	}
	n, err := io.ReadFull(c.r, c.buf[:])
	b := c.buf[:n-n%aes.BlockSize]
	c.mode.CryptBlocks(b, b)
	c.plain = append(c.held, b...)
	c.held = nil
	if err == nil {
		cut := len(c.plain) - aes.BlockSize
		c.held = bytes.Clone(c.plain[cut:])
		c.plain = c.plain[:cut]
		return
	}
	c.err = io.EOF
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		c.err = err
	}
	if n := len(c.plain); n > 0 {
		if pad := int(c.plain[n-1]); pad >= 1 && pad <= aes.BlockSize {
			c.plain = c.plain[:n-pad]
		}
	}
}
