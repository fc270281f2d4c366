package archive

// unpacker returns the code that opens a format, nil for formats that are
// recognised only.
func unpacker(f Format) func(*scope) error {
	switch f {
	case Zip:
		return unpackZip
	case Gzip:
		return unpackGzip
	case Bzip2:
		return unpackBzip2
	case XZ:
		return unpackXZ
	case Zstd:
		return unpackZstd
	case LZMA:
		return unpackLZMA
	case Tar:
		return unpackTar
	case SevenZip:
		return unpackSevenZip
	case RAR:
		return unpackRAR
	case Cabinet:
		return unpackCabinet
	case ISO:
		return unpackISO
	case OLE:
		return unpackOLE
	case RTF:
		return unpackRTF
	case PDF:
		return unpackPDF
	}
	return nil
}
