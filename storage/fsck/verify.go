package fsck

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// Config says what to check or to repair.
type Config struct {
	// Dir is the data directory.
	Dir string
	// Codec reads the records of the log.
	Codec schema.Codec
	// Progress is told now and then how many records were looked at; nil is fine.
	Progress func(done, total uint64)
}

// Verify checks a store that no process has open: every file's checksums, every
// record, and whether all tables agree with each other. It changes nothing. What
// is wrong is in the report; an error says that it could not be looked at, such
// as [layout.ErrLocked].
func Verify(config Config) (Report, error) {
	lock, err := layout.LockToRead(config.Dir)
	if err != nil {
		return Report{}, err
	}
	defer lock.Close()
	return VerifyLocked(config)
}

// VerifyLocked is Verify for a caller that has the lock of the store.
func VerifyLocked(config Config) (Report, error) {
	report := Report{Problems: []Problem{}}
	v := newVerifier(config, &report)
	v.all()
	return report, v.close()
}

// verifier opens what can be opened of a store, to be read.
type verifier struct {
	*checker

	dir     string
	db      *pebble.DB       // nil where it cannot be opened
	control controlfile.File // nil where it cannot be opened
}

func newVerifier(config Config, report *Report) *verifier {
	c := &checker{codec: config.Codec, report: report, progress: config.Progress}
	return &verifier{checker: c, dir: config.Dir}
}

func (v *verifier) all() {
	if _, err := os.Stat(filepath.Join(v.dir, layout.RepairName)); !errors.Is(err, fs.ErrNotExist) {
		v.report.Add(layout.RepairName, "a repair was cut off: run `messaging repair` again")
	}
	v.openControl()
	v.readFormat()
	v.openMessages()
	if v.db != nil {
		v.checker.all()
	}
	if v.control != nil {
		v.checkControl()
	}
}

func (v *verifier) close() error {
	var errs []error
	if v.db != nil {
		errs = append(errs, v.db.Close())
	}
	if v.control != nil {
		errs = append(errs, v.control.Close())
	}
	return errors.Join(errs...)
}

func (v *verifier) openControl() {
	path := layout.Control(v.dir)
	file, err := controlfile.OpenRead(path)
	if err != nil {
		v.report.Add(layout.ControlName, "%v", missing(err))
		return
	}
	v.control = file
}

// readFormat notes which format the store has: one that is being upgraded has the
// old one until that is done.
func (v *verifier) readFormat() {
	v.report.Format = layout.Format
	if v.control == nil {
		return
	}
	if id, err := controlfile.ReadIdentity(v.control); err == nil && id.IsOld() {
		v.report.Format, v.old, v.readPosition = layout.Format1, true, format1.NewReader(v.control).Position
		v.report.UpgradeUnfinished = id.Format == layout.FormatUpgrading
	}
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errMissing
	}
	return err
}

var errMissing = errors.New("it is missing")

func (v *verifier) openMessages() {
	dir := layout.Messages(v.dir)
	db, err := pebbledb.OpenReadOnly(dir, pebbledb.Config{
		FS: vfs.Default, CacheBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler),
		Fatal: func(doing string, err error) { panic(fmt.Errorf("%s: %w", doing, err)) }, //nolint:forbidigo // on a goroutine of the library's
	})
	if err != nil {
		if unopened, ok := errors.AsType[*pebbledb.CorruptError](err); ok {
			err = unopened.Cause() // the report is about damage, and comes with what to do
		}
		v.report.Add(layout.MessagesDir, "cannot be opened: %v", err)
		v.tables(dir, nil)
		return
	}
	v.db, v.reader = db, tables.NewReader(db)
	if v.readPosition == nil {
		v.readPosition = v.reader.Position
	}
	live, err := pebbledb.LiveTables(db)
	if err != nil {
		v.report.Add(layout.MessagesDir, "does not say which tables it has: %v", err)
	}
	v.tables(dir, live)
}

// tables checks every block of the tables that are in use; nil is all of them.
func (v *verifier) tables(dir string, live map[string]bool) {
	names, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		v.report.Add(layout.MessagesDir, "%v", err)
	}
	for _, name := range names {
		base := filepath.Base(name)
		if live != nil && !live[base] {
			v.unnamed(name)
			continue
		}
		if err := checkTable(name); err != nil {
			v.report.Add(filepath.Join(layout.MessagesDir, base), "is damaged: %v", err)
		}
	}
}

// unnamed looks at a table that the manifest does not name. A crash leaves some, of
// which all is elsewhere too; one with newer records was forgotten with the end of
// the manifest.
func (v *verifier) unnamed(path string) {
	meta, err := tables.ReadMeta(v.reader)
	last := lastRecordIn(path)
	if err == nil && last > meta.Last {
		v.report.Add(filepath.Join(layout.MessagesDir, filepath.Base(path)), "has records up to %d and is not named by the manifest, which is damaged", last)
	}
}
