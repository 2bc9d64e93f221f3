package controlfile

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging/storage/internal/layout"
)

// Control is the state of a store that is open.
//
// It has an fsync of its own. The watermark may be a little old: it only ever says
// "at least".
type Control struct {
	file    File
	fatal   func(doing string, err error)
	release func() bool
}

// New returns the control state that is in a file. On a full disk an update calls
// release, which frees the ballast and says whether there was one. After any other
// failure it calls fatal, which must not return.
func New(file File, fatal func(doing string, err error), release func() bool) *Control {
	return &Control{file: file, fatal: fatal, release: release}
}

// Watermark reads the watermark.
func (c *Control) Watermark() (Watermark, error) { return ReadWatermark(c.file) }

// SaveWatermark makes the watermark durable.
func (c *Control) SaveWatermark(w Watermark) error {
	return c.Update("save the watermark", func(tx Tx) error { return putState(tx, KeyWatermark, w.encode()) })
}

// Update runs a durable transaction. On a full disk it releases the ballast
// and tries once more: the service continues. Without a ballast it returns
// [layout.ErrDiskFull], and the caller tries again later; any other failure of the
// file ends the process.
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
