package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// fileFault returns a short text that states why a file or a directory cannot be used.
func fileFault(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "this user has no permission"
	case errors.Is(err, syscall.EISDIR):
		return "it is a directory"
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of its path is a file"
	case errors.Is(err, syscall.EROFS):
		return "its file system is read-only"
	case errors.Is(err, syscall.ELOOP):
		return "its path has a loop of links"
	case errors.Is(err, syscall.ENAMETOOLONG):
		return "its name is too long"
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}

// checkDataDir returns an error if a path cannot be a data directory. It runs before the
// store is opened.
func checkDataDir(v value) error {
	named, dir := v.quoted(v.text), v.text
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkParent(named, dir)
	case err != nil:
		return usagef("%s cannot be used: %s; name a directory", named, fileFault(err))
	case !info.IsDir():
		return usagef("%s must be a directory, but it is a file: name a directory", named)
	}
	const readWriteSearch = 7
	if err := syscall.Access(dir, readWriteSearch); err != nil {
		return usagef("%s cannot be used: %s; change its owner to this user, or name another directory", named, fileFault(err))
	}
	return nil
}

// checkParent checks the directory in which a data directory would be created.
func checkParent(named, dir string) error {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		_, err := os.Stat(parent)
		if errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent) {
			continue
		}
		const writeSearch = 3
		if err == nil {
			err = syscall.Access(parent, writeSearch)
		}
		if err != nil {
			return usagef("%s cannot be created in %s: %s; name another directory", named, parent, fileFault(err))
		}
		return nil
	}
}

// dataDirFault returns a clear error if the service ended because the data directory could
// not be created. It returns other errors unchanged.
func dataDirFault(v value, err error) error {
	path, ok := errors.AsType[*fs.PathError](err)
	if !ok || path.Op != "mkdir" || errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return usagef("%s cannot be created: its file system does not allow it; name another directory", v.quoted(v.text))
}
