package storage

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/stayafrica/messaging"
)

// TestFact12BoltIsOpenedForASmallFreelist: the freelist is a map, and is not
// written with each commit, as the control file is both made and opened.
func TestFact12BoltIsOpenedForASmallFreelist(t *testing.T) {
	path := filepath.Join(t.TempDir(), controlName)
	if err := createControlFile(path, messaging.MessageID{1}); err != nil {
		t.Fatal(err)
	}
	file, err := openControlFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bolt, ok := file.(boltFile)
	if !ok || bolt.db.FreelistType != bbolt.FreelistMapType || !bolt.db.NoFreelistSync {
		t.Errorf("%+v", file)
	}
}
