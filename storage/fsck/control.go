package fsck

import (
	"bytes"
	"errors"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// checkControl checks the control file and compares it with the messages.
func (v *verifier) checkControl() {
	file := v.control
	mark, err := controlfile.ReadWatermark(file)
	if err != nil {
		v.report.Add(layout.ControlName, "%v", err)
	}
	id, err := controlfile.ReadIdentity(file)
	switch {
	case err != nil:
		v.report.Add(layout.ControlName, "%v", err)
	case v.db != nil && id.StoreID != v.meta.StoreID:
		v.report.Add(layout.ControlName, "belongs to another store than %s", layout.MessagesDir)
	}
	if v.db != nil && (v.meta.Last < mark.Sequence || v.meta.Generation < mark.Generation) {
		v.report.Add(layout.MessagesDir, "holds messages up to %d (generation %d), but %d (generation %d) was acknowledged: files are missing or were cut",
			v.meta.Last, v.meta.Generation, mark.Sequence, mark.Generation)
	}
	err = file.View(func(tx controlfile.Tx) error {
		v.checkCopies(tx)
		v.checkValues(tx)
		return nil
	})
	if err != nil {
		v.report.Add(layout.ControlName, "%v", err)
	}
	if v.old {
		v.checkFormat1()
	}
}

// checkFormat1 reads what an upgrade would copy. Checksum errors are reported elsewhere.
func (v *verifier) checkFormat1() {
	letters, err := format1.NewReader(v.control).Check()
	v.report.DeadLetters = letters
	if err != nil && !errors.Is(err, controlfile.ErrChecksum) {
		v.report.Add(layout.ControlName, "%v", err)
	}
}

// checkCopies checks that both copies of the state are equal. An unreadable copy is
// reported by checkValues.
func (v *verifier) checkCopies(tx controlfile.Tx) {
	for _, key := range []string{controlfile.KeyIdentity, controlfile.KeyWatermark} {
		var values [2][]byte
		readable := true
		for i, bucket := range controlfile.StateBuckets() {
			if sealed := tx.Get(bucket, key); sealed != nil {
				value, err := controlfile.VerifyChecksum(bucket, key, sealed)
				readable = readable && err == nil
				values[i] = append([]byte{}, value...)
			}
		}
		if readable && ((values[0] == nil) != (values[1] == nil) || !bytes.Equal(values[0], values[1])) {
			v.report.Add(layout.ControlName, "has two copies of %s that differ", key)
		}
	}
}

// checkValues checks the checksum of every value, including those of format 1, which has
// dead letters, jobs and the drain's position in this file.
func (v *verifier) checkValues(tx controlfile.Tx) {
	for _, bucket := range controlfile.Buckets() {
		if bucket == controlfile.Format1LetterGroups {
			continue // an index without checksums
		}
		tx.Scan(bucket, "", func(key string, sealed []byte) bool {
			if key == controlfile.KeyPad {
				return true
			}
			if _, err := controlfile.VerifyChecksum(bucket, key, sealed); err != nil {
				v.report.Add(layout.ControlName, "%v", err)
			}
			return true
		})
	}
}
