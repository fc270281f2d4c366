package config

import (
	"path/filepath"
	"reflect"
)

// DataDir is the data_dir that a file names, whatever else is wrong with it; "" where
// that cannot be told. It is for those who only want to find the running gateway: an
// error that somebody is about to make must not keep him from looking at the queue.
func DataDir(path string) Path {
	data, err := readFile(path, maxFileSize)
	if err != nil {
		return ""
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	root, _, syntax := parseTree(data)
	if syntax != nil {
		return ""
	}
	b := &binder{file: path, dir: filepath.Dir(full), places: map[any]*place{}}
	cfg := &Config{}
	b.table(reflect.ValueOf(cfg).Elem(), root, scope{at: pos{1, 1}})
	return cfg.DataDir
}
