package controlfile

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging/storage/internal/layout"
)

// Control is the state of an open store.
//
// It has its own fsync. The watermark may be a little old: it is only a lower bound.
type Control struct {
	file    File
	fatal   func(doing string, err error)
	release func() bool
}

// New returns the control state of a file. On a full disk, an update calls release, which
// releases the ballast and reports whether there was one. After any other failure an
// update calls fatal, which must not return.
func New(file File, fatal func(doing string, err error), release func() bool) *Control {
	return &Control{file: file, fatal: fatal, release: release}
}

// Watermark reads the watermark.
func (c *Control) Watermark() (Watermark, error) { return ReadWatermark(c.file) }

// SaveWatermark makes the watermark durable.
func (c *Control) SaveWatermark(w Watermark) error {
	return c.Update("save the watermark", func(tx Tx) error { return putState(tx, KeyWatermark, w.encode()) })
}

// Update runs a durable transaction. On a full disk it releases the ballast and retries
// once. Without a ballast it returns [layout.ErrDiskFull], and the caller retries later.
// Any other failure of the file ends the process.
func (c *Control) Update(doing string, change func(tx Tx) error) error {
	err := c.file.Update(change)
	if layout.IsDiskFull(err) && c.release != nil && c.release() {
		err = c.file.Update(change)
	}
	switch {
	case err == nil, errors.Is(err, layout.ErrCorrupt):
		return err
	case layout.IsDiskFull(err):
		return fmt.Errorf("%s: %w: %w", doing, layout.ErrDiskFull, err)
	}
	c.fatal(doing, err)
	return err
}
