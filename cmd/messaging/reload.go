package main

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"os"
	"time"
)

// reloader loads files again when they change, and on SIGHUP. It is a service of the
// supervisor.
//
// It compares contents instead of watching: Kubernetes replaces a directory of links, which
// watches of a file miss, and two files that belong together are not replaced at once.
type reloader struct {
	logger  *slog.Logger
	hangups <-chan struct{} // SIGHUP; nil for none
	files   []*reloadedFiles
	audit   *auditLog
}

// reloadedFiles are files that are loaded together.
type reloadedFiles struct {
	what  string // the setting, for logs
	paths []string
	load  func() error

	sum    [sha256.Size]byte
	failed [sha256.Size]byte // the content of the last failure, which is reported once
}

// reloadEvery is the time between two comparisons.
const reloadEvery = 2 * time.Second

// add registers files that were loaded just now.
func (r *reloader) add(what string, load func() error, paths ...string) {
	f := &reloadedFiles{what: what, paths: paths, load: load}
	f.sum = f.content()
	r.files = append(r.files, f)
}

// Run reloads until the context ends.
func (r *reloader) Run(ctx context.Context) error {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.hangups:
			r.hangup() //nolint:contextcheck // an entry of the audit log is written whole
		case <-ticker.C:
			r.look() //nolint:contextcheck // the same
		}
	}
}

// hangup loads everything again.
func (r *reloader) hangup() {
	failed := 0
	for _, f := range r.files {
		if !r.reload(f, f.content()) {
			failed++
		}
	}
	if err := r.audit.reopen(); err != nil {
		r.logger.Error("the audit log is not opened again, the former file stays in use", "error", err)
	}
	r.logger.Info("SIGHUP: files are loaded again; other settings need a restart", "files", len(r.files)-failed, "failed", failed)
}

// look loads what has changed.
func (r *reloader) look() {
	for _, f := range r.files {
		if sum := f.content(); sum != f.sum && sum != f.failed {
			r.reload(f, sum)
		}
	}
	if r.audit.isRotated() {
		if err := r.audit.reopen(); err != nil {
			r.logger.Error("the audit log is not opened again, the former file stays in use", "error", err)
		}
	}
}

// reload loads files again, and reports whether that worked.
func (r *reloader) reload(f *reloadedFiles, sum [sha256.Size]byte) bool {
	if err := f.load(); err != nil {
		f.failed = sum
		r.logger.Error("a file is not loaded again: the former content stays in force", "setting", f.what, "error", err)
		r.audit.event("reload", f.what, http.StatusInternalServerError)
		return false
	}
	f.sum, f.failed = sum, [sha256.Size]byte{}
	r.logger.Info("a file is loaded again", "setting", f.what)
	r.audit.event("reload", f.what, http.StatusOK)
	return true
}

// content returns a hash of the files; an unreadable one counts by its error.
func (f *reloadedFiles) content() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, path := range f.paths {
		text, err := os.ReadFile(path)
		if err != nil {
			text = []byte(err.Error())
		}
		part := sha256.Sum256(text)
		_, _ = h.Write(part[:]) // a hash does not fail
	}
	h.Sum(sum[:0])
	return sum
}
