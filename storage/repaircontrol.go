package storage

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/stayafrica/messaging"
)

// oldState is what can be read of a control file: the state, and all sealed
// entries of other buckets whose checksum is right.
type oldState struct {
	id       messaging.MessageID
	mark     Watermark
	position messaging.Position
	entries  map[string]map[string][]byte // by bucket, as they stand there
	newer    error                        // says that a newer program has written it
}

// readControl reads the old control file page by page: bbolt would not open it.
// A page that is damaged is passed over, with what is below it.
func (r *repairer) readControl() oldState {
	state := oldState{entries: make(map[string]map[string][]byte)}
	f, err := os.Open(r.store.path(controlName))
	if err != nil {
		r.change("%s could not be read: dead letters, jobs and the drain's position are lost; everything goes to the backend again, under the same ids", controlName)
		return state
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return state
	}
	meta, err := newestBoltMeta(f, info.Size())
	if err != nil {
		r.change("%s could not be read (%v): dead letters, jobs and the drain's position are lost; everything goes to the backend again, under the same ids", controlName, err)
		return state
	}
	w := &boltWalk{file: f, boltMeta: meta, reached: make([]bool, meta.pages)}
	w.salvage(meta.root, func(e boltEntry) {
		if e.flags == boltIsBucket && slices.Contains(controlBuckets[:], string(e.key)) && len(e.value) >= boltBucket {
			state.bucket(w, string(e.key), e.value)
		}
	})
	state.read()
	return state
}

// salvage calls each for the entries of a tree that can be reached.
func (w *boltWalk) salvage(id uint64, each func(e boltEntry)) {
	branch, entries, err := w.page(id)
	if err != nil {
		return
	}
	for _, e := range entries {
		if branch {
			w.salvage(e.page, each)
		} else {
			each(e)
		}
	}
}

func (s *oldState) bucket(w *boltWalk, name string, value []byte) {
	keep := func(e boltEntry) {
		if _, err := unseal(name, string(e.key), e.value); err != nil && name != bucketDeadGroups {
			return
		}
		if s.entries[name] == nil {
			s.entries[name] = make(map[string][]byte)
		}
		s.entries[name][string(e.key)] = bytes.Clone(e.value)
	}
	if root := boltOrder.Uint64(value); root != 0 {
		w.salvage(root, keep)
		return
	}
	inline := value[boltBucket:]
	if checkInline(0, inline) != nil {
		return
	}
	for _, e := range parseBoltHeader(inline).entries(inline) {
		keep(e)
	}
}

// read takes the state out of either of its copies.
func (s *oldState) read() {
	file := &MemoryControl{cells: make(map[string][]byte)}
	for _, bucket := range stateBuckets {
		for key, value := range s.entries[bucket] {
			file.cells[cell(bucket, key)] = value
		}
	}
	c := &Control{file: file}
	id, err := c.identity()
	switch {
	case err == nil:
		s.id = id.storeID
	case errors.Is(err, ErrFormat):
		s.newer = err
	}
	s.mark, _ = c.Watermark()    // zero where it cannot be read
	s.position, _ = c.Position() // the same
}

// buildControl makes the new control file: the state, and what could be read of
// dead letters and jobs.
func (r *repairer) buildControl() error {
	path := r.store.path(repairedControl)
	if err := createControlFile(path, r.meta.StoreID); err != nil {
		return err
	}
	file, err := openControlFile(path)
	if err != nil {
		return err
	}
	c := &Control{file: file, fatal: func(string, error) {}}
	err = errors.Join(
		c.SaveWatermark(Watermark{Sequence: r.meta.Last, Generation: r.meta.Generation}),
		c.SavePosition(r.position()), r.copyLetters(c), r.copyJobs(c),
	)
	return errors.Join(err, file.Close())
}

func (r *repairer) copyJobs(c *Control) error {
	for id, sealed := range r.state.entries[bucketJobs] {
		job, err := unseal(bucketJobs, id, sealed)
		if err != nil {
			continue
		}
		if err := c.SaveJob(id, job); err != nil {
			return err
		}
	}
	return nil
}

// copyLetters writes the dead letters anew of which the letter and at least one
// recipient can be read.
func (r *repairer) copyLetters(c *Control) error {
	receivers := make(map[string][]string)
	for key := range r.state.entries[bucketDeadReceivers] {
		id, user, _ := strings.Cut(key, "/")
		receivers[id] = append(receivers[id], user)
	}
	lost := 0
	for id, sealed := range r.state.entries[bucketDead] {
		record, err := decodeDeadLetter(id, sealed)
		if err != nil || len(receivers[id]) == 0 {
			lost++
			continue
		}
		if err := c.copyLetter(record, receivers[id], r.state.entries[bucketDeadReceivers]); err != nil {
			return err
		}
		delete(receivers, id)
	}
	for id := range receivers {
		if _, ok := r.state.entries[bucketDead][id]; !ok {
			lost++
		}
	}
	if lost > 0 {
		r.change("%d dead letters could not be read", lost)
	}
	return nil
}

func (c *Control) copyLetter(record *deadLetterRecord, users []string, sealed map[string][]byte) error {
	return c.changeDead("copy a dead letter", func(tx *deadTx) error {
		record.Recipients = len(users)
		letter := record.letter()
		tx.more[record.Kind]++
		err := errors.Join(tx.write(record), tx.Put(bucketDeadGroups, groupKey(&letter), []byte(record.ID)))
		for _, user := range users {
			key := record.ID + "/" + user
			err = errors.Join(err, tx.Put(bucketDeadReceivers, key, sealed[key]))
		}
		return err
	})
}
