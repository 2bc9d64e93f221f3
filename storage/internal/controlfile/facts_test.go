package controlfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// Measured behavior of bbolt that this package relies on. If a test fails after an
// upgrade of bbolt, a check has become unnecessary or insufficient.

func TestFact3BoltHasNoChecksums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bolt.db")
	write := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		return errors.Join(err, b.Put([]byte("key"), []byte("a value to recognize")))
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(write), db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b { // every copy
		if string(b[i:min(i+7, len(b))]) == "a value" {
			b[i] = 'X'
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err = bbolt.Open(path, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket([]byte("b")).Get([]byte("key")); string(v) != "X value to recognize" {
			t.Errorf("it reads %q: bbolt detects damaged values now", v)
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Error(err)
	}
}

func TestFact3BoltTakesAnEmptyFileForANewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bolt.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatalf("bbolt refuses it now: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestFact12BoltIsOpenedForASmallFreelist shows that the freelist is a map and is not
// written with each commit, both when the control file is created and when it is opened.
func TestFact12BoltIsOpenedForASmallFreelist(t *testing.T) {
	path := filepath.Join(t.TempDir(), layout.ControlName)
	if err := Create(path, messaging.MessageID{1}, Watermark{}); err != nil {
		t.Fatal(err)
	}
	file, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bolt, ok := file.(boltFile)
	if !ok || bolt.db.FreelistType != bbolt.FreelistMapType || !bolt.db.NoFreelistSync {
		t.Errorf("%+v", file)
	}
}
