package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// cutUpgrade leaves a store as after a power cut before the last commit of an upgrade's
// copies. The counts, which are copied last, are missing.
func cutUpgrade(t *testing.T, dir string) {
	t.Helper()
	storagetest.SetFormat(t, dir, layout.FormatUpgrading)
	s := newStore(Config{Dir: dir, MemTableBytes: 1 << 20})
	if err := s.openControl(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.db, err = s.openPebble(s.path(layout.MessagesDir), pebbledb.Open); err != nil {
		t.Fatal(err)
	}
	if err := s.held.Release(); err != nil {
		t.Fatal(err)
	}
	cut := false
	batch := s.NewBatch()
	c := &format1.Copier{From: format1.NewReader(s.controlFile), Into: s.Reader, Batch: batch, Write: func(batch *Batch, last bool) {
		if cut = cut || last; !cut {
			batch.Commit()
		}
		batch.Reset()
	}}
	if err := c.Copy(); err != nil {
		t.Fatal(err)
	}
	batch.Close()
	storagetest.Close(t, s)
}

// A power cut during an upgrade is not damage: the next start finishes it.
func TestVerifyOfAnUpgradeThatWasCutOffFindsNoDamage(t *testing.T) {
	dir := format1Store(t)
	want := lettersOfFormat1(t, dir)
	cutUpgrade(t, dir)
	wantWhole(t, dir, layout.Format1)
	if report, err := fsck.Verify(checkConfig(dir)); err != nil || !report.UpgradeUnfinished {
		t.Errorf("a check does not report the upgrade: %+v (%v)", report, err)
	}
	wantUpgraded(t, dir, want)
	if report, err := fsck.Verify(checkConfig(dir)); err != nil || report.UpgradeUnfinished {
		t.Errorf("a check reports an upgrade that is finished: %+v (%v)", report, err)
	}
}

// Damage in a store with an interrupted upgrade is found, both in the data to be copied
// and in the data that both formats have.
func TestVerifyFindsDamageBesideAnUpgradeThatWasCutOff(t *testing.T) {
	for where, damage := range map[string]func(t *testing.T, dir string){
		layout.ControlName: func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, layout.ControlName)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := strings.Index(string(data), `"reason":"`)
			if at < 0 {
				t.Fatal("the control file has no dead letter")
			}
			for at := range data { // in every page, including unused ones
				if strings.HasPrefix(string(data[at:]), `"reason":"`) {
					data[at+len(`"reason":"`)] ^= 1
				}
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"record 40": func(t *testing.T, dir string) {
			t.Helper()
			changeMessages(t, dir, func(b *Batch, _ schema.Meta) { tables.Delete(b, schema.NumberKey(schema.TableLog, 40)) })
		},
	} {
		t.Run(where, func(t *testing.T) {
			dir := format1Store(t)
			cutUpgrade(t, dir)
			damage(t, dir)
			report, err := fsck.Verify(checkConfig(dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range report.Problems {
				if p.Where == where {
					return
				}
			}
			t.Errorf("found %+v", report.Problems)
		})
	}
}
