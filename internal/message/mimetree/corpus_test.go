package mimetree

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// corpora returns the folder of the corpora, or skips the test.
func corpora(t *testing.T, sub string) string {
	t.Helper()
	dir := os.Getenv("GATEPOST_CORPORA")
	if dir == "" {
		t.Skip("GATEPOST_CORPORA does not name a folder with corpora")
	}
	return filepath.Join(dir, sub)
}

// corpusFile is one message of a corpus as SMTP would bring it.
type corpusFile struct {
	path  string
	trick string
	valid int
	data  string
}

func readCorpus(t *testing.T, dir string) []corpusFile {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	var list []corpusFile
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := corpusFile{path: path, data: strings.ReplaceAll(string(b), "\n", "\r\n")}
		if _, id, ok := strings.Cut(f.data, "X-Payload-Id: "); ok {
			id, _, _ = strings.Cut(id, "\r\n")
			words := strings.Fields(id)
			f.trick = words[0]
			if v, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(words[1], "valid("), ")")); err == nil {
				f.valid = v
			}
		}
		list = append(list, f)
	}
	return list
}

const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// opensToEICAR reports whether a program that opens the content finds the test
// virus: as it is, or in a zip, or in a gzip.
func opensToEICAR(data []byte) bool {
	if bytes.Contains(data, []byte(eicar)) {
		return true
	}
	if r, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err == nil {
		for _, f := range r.File {
			if in, err := f.Open(); err == nil {
				if b, err := io.ReadAll(in); err == nil && bytes.Contains(b, []byte(eicar)) {
					return true
				}
			}
		}
	}
	if r, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if b, err := io.ReadAll(r); err == nil && len(b) > 0 {
			return opensToEICAR(b)
		}
	}
	return false
}

// refused reports what the SMTP server does not let in.
func refused(data string) bool {
	rest := strings.ReplaceAll(data, "\r\n", "")
	return strings.ContainsAny(rest, "\r\n\x00")
}

func TestHiddenContentIsFound(t *testing.T) {
	files := readCorpus(t, corpora(t, "noxxi/hide-content"))
	payload := payloadOf(t, files)
	var found, opened, flagged, refusals, missed, valid, validFound int
	for _, f := range files {
		tree := read(t, f.data)
		exact, opens := false, false
		for _, p := range tree.Parts {
			for _, c := range p.Contents {
				b, err := io.ReadAll(c.Open())
				if err != nil {
					t.Fatalf("%s: %v", f.trick, err)
				}
				exact = exact || bytes.Contains(b, payload)
				opens = opens || opensToEICAR(b)
			}
		}
		_, ambiguous := tree.Ambiguous()
		if f.valid >= 1 {
			valid++
		}
		if opens {
			opened++
		}
		switch {
		case exact || opens:
			found++
			if f.valid >= 1 {
				validFound++
			}
		case ambiguous:
			flagged++
			t.Logf("flagged only: %s (validity %d): %v", f.trick, f.valid, tree.Findings)
		case refused(f.data):
			refusals++
		default:
			missed++
			t.Logf("missed: %s (validity %d) %s: %v", f.trick, f.valid, filepath.Base(f.path), tree.Findings)
		}
	}
	t.Logf("%d mails: found %d (opens %d), flagged only %d, refused %d, missed %d; validity >= 1: %d of %d", len(files), found, opened, flagged, refusals, missed, validFound, valid)
	if found+flagged+refusals < 365 || validFound < 80 {
		t.Errorf("too few")
	}
}

// payloadOf takes the payload from the mail that hides nothing.
func payloadOf(t *testing.T, files []corpusFile) []byte {
	for _, f := range files {
		if f.trick == "multipart-basic-singlepart-b64h-basic-base64-basic" {
			_, body, _ := strings.Cut(f.data, "eicar.zip\"\r\n")
			_, body, _ = strings.Cut(body, "\r\n\r\n")
			body, _, _ = strings.Cut(body, "\r\n--")
			b, err := base64.StdEncoding.DecodeString(body)
			if err != nil || !opensToEICAR(b) {
				t.Fatalf("no payload: %v", err)
			}
			return b
		}
	}
	t.Fatal("the plain mail is missing")
	return nil
}

func TestHiddenFileNamesAreFound(t *testing.T) {
	files := readCorpus(t, corpora(t, "noxxi/hide-filename"))
	found := 0
	for _, f := range files {
		tree := read(t, f.data)
		hit := false
		for _, p := range tree.Parts {
			p.EachName(func(key string) bool {
				hit = hit || strings.HasSuffix(key, ".zip")
				return !hit
			})
		}
		if hit {
			found++
			continue
		}
		t.Logf("missed: %s", f.trick)
		for _, p := range tree.Parts {
			t.Logf("   %s %q", p.Path, p.Names)
		}
	}
	t.Logf("%d mails: found %d", len(files), found)
	if found < 170 {
		t.Errorf("too few")
	}
}
