package admin

// StorageUse is what one part of the gateway's data takes.
type StorageUse struct {
	// Name is "spool", "store", "history", "logs" and the like.
	Name string `json:"name"`
	Path string `json:"path,omitempty"`
	// Bytes is what it takes; AtLeast says that there was too much to count it all.
	Bytes   int64 `json:"bytes"`
	AtLeast bool  `json:"at_least,omitempty"`
	// Free and Total are those of the file system, 0 where they are not known.
	Free  int64 `json:"free_bytes,omitempty"`
	Total int64 `json:"total_bytes,omitempty"`
}

// Scarce says that the file system is nearly full: less than a tenth, and less than
// 10 GiB, is left.
func (u StorageUse) Scarce() bool { return u.Total > 0 && u.Free < u.Total/10 && u.Free < 10<<30 }

// Used is what is taken of the file system.
func (u StorageUse) Used() int64 { return u.Total - u.Free }
