package archive

import (
	"errors"
	"fmt"
	"io"

	"gatepost/internal/message/archive/pdf"
)

// maxPDFDecoded bounds what is decoded of a PDF to look at it, in bytes; attached
// files are counted as members.
const maxPDFDecoded = 128 << 20

var pdfSymbols = map[pdf.Kind]symbol{
	pdf.JavaScript: symPDFScript, pdf.Launch: symPDFLaunch, pdf.Action: symPDFAction, pdf.Embedded: symPDFEmbedded,
	pdf.Submit: symPDFSubmit, pdf.Encrypted: symPDFEncrypted, pdf.Damaged: symPDFDamaged,
}

// unpackPDF reports what a PDF does, and gives its attached files and scripts.
func unpackPDF(s *scope) error {
	decoded := int64(0)
	scripts := 0
	err := pdf.Scan(s.body, s.body.Size(), pdf.Events{
		Found: func(k pdf.Kind, text string) {
			if k == pdf.Embedded {
				text = fmt.Sprintf("%q", shorten(CleanName(text), 100))
			}
			s.note(pdfSymbols[k], "%s", text)
		},
		Link: s.link,
		Script: func(text []byte) error {
			scripts++
			return s.text(fmt.Sprintf("script-%d.js", scripts), text)
		},
		File: func(names []string, open func() (io.Reader, error)) error {
			_, err := s.stream(entry{raws: names, claimed: -1, packed: -1}, func() (io.Reader, error) {
				r, err := open()
				if errors.Is(err, pdf.ErrFilter) {
					err = fmt.Errorf("%w: %w", errMethod, err)
				}
				return r, err
			})
			return err
		},
		Decoded: func(n int64) bool {
			if decoded += n; decoded <= maxPDFDecoded {
				return true
			}
			s.note(symPDFDamaged, "more than %d MiB of objects", maxPDFDecoded>>20)
			return false
		},
	})
	return s.orEnded(err)
}
