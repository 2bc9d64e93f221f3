package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	rest "github.com/stayafrica/messaging/http"
)

// auditStderr is the value of AUDIT_LOG for standard error.
const auditStderr = "stderr"

// auditLog writes the audit log: one JSON object a line. It is safe for concurrent use.
//
// A file is opened again on reopen and after it was renamed or removed, so logrotate needs
// no copytruncate. If a write fails, the entry goes to the log of the service instead.
type auditLog struct {
	path   string // empty for a stream
	logger *slog.Logger

	mu   sync.Mutex
	file *os.File // nil for a stream
	json slog.Handler
}

// openAuditLog opens the audit log of a configuration; it returns nil if there is none.
func openAuditLog(path string, stream io.Writer, logger *slog.Logger) (*auditLog, error) {
	switch path {
	case "":
		return nil, nil //nolint:nilnil // no audit log is not an error
	case auditStderr:
		return &auditLog{logger: logger, json: auditHandler(stream)}, nil
	}
	a := &auditLog{path: path, logger: logger}
	if err := a.reopen(); err != nil {
		return nil, err
	}
	return a, nil
}

// auditHandler writes the keys time and action, and no level.
func auditHandler(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.LevelKey:
			return slog.Attr{}
		case slog.MessageKey:
			a.Key = "action"
		}
		return a
	}})
}

// reopen opens the file again. On an error the former one stays in use.
func (a *auditLog) reopen() error {
	if a == nil || a.path == "" {
		return nil
	}
	file, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return usagef("AUDIT_LOG %q cannot be written: %s", a.path, fileFault(err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	former := a.file
	a.file, a.json = file, auditHandler(file)
	if former != nil {
		_ = former.Close() // each line was written whole
	}
	return nil
}

// isRotated reports whether the path has another file than the open one.
func (a *auditLog) isRotated() bool {
	if a == nil || a.path == "" {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	mine, err := a.file.Stat()
	if err != nil {
		return true
	}
	there, err := os.Stat(a.path)
	return errors.Is(err, os.ErrNotExist) || (err == nil && !os.SameFile(mine, there))
}

// record writes an event.
func (a *auditLog) record(e rest.AuditEvent) {
	r := slog.NewRecord(e.Time.UTC(), slog.LevelInfo, e.Action, 0)
	r.AddAttrs(slog.Int("status", e.Status))
	for _, of := range []struct{ key, text string }{
		{"subject", e.Subject}, {"token", e.Token}, {"user", string(e.User)}, {"request_id", e.RequestID},
	} {
		if of.text != "" {
			r.AddAttrs(slog.String(of.key, of.text))
		}
	}
	if e.Address.IsValid() {
		r.AddAttrs(slog.String("address", e.Address.String()))
	}
	a.write(r)
}

func (a *auditLog) write(r slog.Record) {
	a.mu.Lock()
	err := a.json.Handle(context.Background(), r)
	a.mu.Unlock()
	if err != nil {
		attrs := []any{"error", err, "action", r.Message}
		r.Attrs(func(at slog.Attr) bool { attrs = append(attrs, at.Key, at.Value); return true })
		a.logger.Error("the audit log cannot be written: this entry is here instead", attrs...)
	}
}

// event writes an event of the service itself, such as a reload. Its status is that of a
// request with the same result.
func (a *auditLog) event(action, subject string, status int) {
	if a != nil {
		a.record(rest.AuditEvent{Time: time.Now(), Action: action, Subject: subject, Status: status})
	}
}

// Close closes the file.
func (a *auditLog) Close() error {
	if a == nil || a.path == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.file.Close(); err != nil {
		return fmt.Errorf("close the audit log: %w", err)
	}
	return nil
}
