package storage

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// TestNothingRunsBehindACloseACheckOrARepair: whoever starts a goroutine joins
// it. (Tests of failing disks leave behind what a process takes with it when it
// ends, so this is no check of all tests.)
func TestNothingRunsBehindACloseACheckOrARepair(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := filepath.Join(t.TempDir(), "data")
	s := openDisk(t, dir)
	fill(t, s, 20)
	closeStore(t, s)
	goleak.VerifyNone(t, before)
	config := CheckConfig{Dir: dir, Codec: testCodec()}
	if _, err := Verify(config); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
	flipByte(t, newestFile(t, filepath.Join(dir, messagesDir, "*.log")), 300)
	done, err := Repair(config)
	if err != nil || done.Aside == "" {
		t.Fatalf("%+v (%v)", done, err)
	}
	goleak.VerifyNone(t, before)
}
