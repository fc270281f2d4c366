package archive

import "gatepost/internal/mail"

// symbol is a row of the table in the package comment.
type symbol struct {
	module, name string
	result       mail.Result
}

// The findings about archives.
var (
	symEncrypted   = symbol{"archive", "encrypted", mail.Unknown}
	symDamaged     = symbol{"archive", "damaged", mail.Unknown}
	symMethod      = symbol{"archive", "method", mail.Unknown}
	symUnsupported = symbol{"archive", "unsupported", mail.Unknown}
	symVolumes     = symbol{"archive", "volumes", mail.Unknown}
	symDepth       = symbol{"archive", "depth", mail.Unknown}
	symFiles       = symbol{"archive", "files", mail.Unknown}
	symBytes       = symbol{"archive", "bytes", mail.Unknown}
	symRatio       = symbol{"archive", "ratio", mail.Unknown}
	symTime        = symbol{"archive", "time", mail.Unknown}
	symMemory      = symbol{"archive", "memory", mail.Unknown}
	symMismatch    = symbol{"archive", "mismatch", mail.Match}
	symHidden      = symbol{"archive", "hidden", mail.Match}
	symOverlap     = symbol{"archive", "overlap", mail.Match}
	symAmbiguous   = symbol{"archive", "ambiguous", mail.Match}
	symPrefixed    = symbol{"archive", "prefixed", mail.Match}
	symName        = symbol{"archive", "name", mail.Match}
)

// The findings about Office documents and RTF.
var (
	symMacro           = symbol{"office", "macro", mail.Match}
	symAutorun         = symbol{"office", "autorun", mail.Match}
	symXLM             = symbol{"office", "xlm", mail.Match}
	symObject          = symbol{"office", "object", mail.Match}
	symEquation        = symbol{"office", "equation", mail.Match}
	symActiveX         = symbol{"office", "activex", mail.Match}
	symTemplate        = symbol{"office", "template", mail.Match}
	symLink            = symbol{"office", "link", mail.Match}
	symDDE             = symbol{"office", "dde", mail.Match}
	symOfficeEncrypted = symbol{"office", "encrypted", mail.Unknown}
	symOfficeDamaged   = symbol{"office", "damaged", mail.Unknown}
)

// The findings about PDF.
var (
	symPDFScript    = symbol{"pdf", "javascript", mail.Match}
	symPDFLaunch    = symbol{"pdf", "launch", mail.Match}
	symPDFAction    = symbol{"pdf", "action", mail.Match}
	symPDFEmbedded  = symbol{"pdf", "embedded", mail.Match}
	symPDFSubmit    = symbol{"pdf", "submit", mail.Match}
	symPDFEncrypted = symbol{"pdf", "encrypted", mail.Unknown}
	symPDFDamaged   = symbol{"pdf", "damaged", mail.Unknown}
)
