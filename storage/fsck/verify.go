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

// Config configures a check or a repair.
type Config struct {
	// Dir is the data directory.
	Dir string
	// Codec decodes the records of the log.
	Codec schema.Codec
	// Progress is called now and then with the number of records read. It may be nil.
	Progress func(done, total uint64)
}

// Verify checks a store that no process has open: the checksums of every file, every
// record, and whether all tables agree with each other. It changes nothing. The report
// has the problems found. An error means that the check could not run, for example
// [layout.ErrLocked].
func Verify(config Config) (Report, error) {
	lock, err := layout.LockToRead(config.Dir)
	if err != nil {
		return Report{}, err
	}
	defer lock.Close()
	return VerifyLocked(config)
}

// VerifyLocked is like Verify, for a caller that holds the store's lock.
func VerifyLocked(config Config) (Report, error) {
	report := Report{Problems: []Problem{}}
	v := newVerifier(config, &report)
	v.all()
	return report, v.close()
}

// verifier opens the readable parts of a store read-only.
type verifier struct {
	*checker

	dir     string
	db      *pebble.DB       // nil if it cannot be opened
	control controlfile.File // nil if it cannot be opened
}

func newVerifier(config Config, report *Report) *verifier {
	c := &checker{codec: config.Codec, report: report, progress: config.Progress}
	return &verifier{checker: c, dir: config.Dir}
}

func (v *verifier) all() {
	if _, err := os.Stat(filepath.Join(v.dir, layout.RepairName)); !errors.Is(err, fs.ErrNotExist) {
		v.report.Add(layout.RepairName, "a repair was interrupted: run `messaging repair` again")
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

// readFormat sets the store's format. A store has the old format until its upgrade is
// complete.
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

var errMissing = errors.New("is missing")

func (v *verifier) openMessages() {
	dir := layout.Messages(v.dir)
	db, err := pebbledb.OpenReadOnly(dir, pebbledb.Config{
		FS: vfs.Default, CacheBytes: 64 << 20, Logger: slog.New(slog.DiscardHandler),
		Fatal: func(doing string, err error) { panic(fmt.Errorf("%s: %w", doing, err)) }, //nolint:forbidigo // on a goroutine of Pebble
	})
	if err != nil {
		if unopened, ok := errors.AsType[*pebbledb.CorruptError](err); ok {
			err = unopened.Cause() // the report is about damage already, and the caller says what to do
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
		v.report.Add(layout.MessagesDir, "has tables that cannot be listed: %v", err)
	}
	v.tables(dir, live)
}

// tables checks every block of the live tables. A nil live means all tables.
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

// unnamed checks a table that the manifest does not name. A crash leaves such tables, and
// their contents are elsewhere too. If one has newer records than the store, the manifest
// has lost its end.
func (v *verifier) unnamed(path string) {
	meta, err := tables.ReadMeta(v.reader)
	last := lastRecordIn(path)
	if err == nil && last > meta.Last {
		v.report.Add(filepath.Join(layout.MessagesDir, filepath.Base(path)), "has records up to %d and is not named by the manifest, which is damaged", last)
	}
}
