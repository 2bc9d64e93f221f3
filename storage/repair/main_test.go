package repair

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/filetest"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

// TestNothingRunsBehindACloseACheckOrARepair shows that a close, a check and a repair
// leave no goroutines. (Tests with failing disks leave goroutines that would end with the
// process, so this is not checked after all tests.)
func TestNothingRunsBehindACloseACheckOrARepair(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	storagetest.Fill(t, s, 20)
	storagetest.Close(t, s)
	goleak.VerifyNone(t, before)
	config := fsck.Config{Dir: dir, Codec: storagetest.Codec()}
	if _, err := fsck.Verify(config); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
	filetest.FlipByte(t, filetest.NewestFile(t, filepath.Join(dir, layout.MessagesDir, "*.log")), 300)
	done, err := Repair(config)
	if err != nil || done.Quarantine == "" {
		t.Fatalf("%+v (%v)", done, err)
	}
	goleak.VerifyNone(t, before)
}
