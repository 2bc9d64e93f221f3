package storage

import "testing"

func TestJobsAreKept(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir)
	for id, job := range map[string]string{"a": "one", "b": "two"} {
		if err := s.Control().SaveJob(id, []byte(job)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Control().ForgetJob("a"); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openDisk(t, dir)
	defer closeStore(t, s)
	jobs, err := s.Control().Jobs()
	if err != nil || len(jobs) != 1 || string(jobs["b"]) != "two" {
		t.Errorf("%q %v", jobs, err)
	}
}
