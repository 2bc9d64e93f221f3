package storage

import (
	"bytes"
	"strings"

	"github.com/stayafrica/messaging"
)

// checkControl reads all that is in the control file, and compares it with the
// messages.
func (v *verifier) checkControl() {
	c := v.store.control
	mark, err := c.Watermark()
	if err != nil {
		v.report.add(controlName, "%v", err)
	}
	position, err := c.Position()
	if err != nil {
		v.report.add(controlName, "%v", err)
	}
	id, err := c.identity()
	switch {
	case err != nil:
		v.report.add(controlName, "%v", err)
	case v.store.db != nil && id.storeID != v.meta.StoreID:
		v.report.add(controlName, "belongs to another store than %s", messagesDir)
	}
	if v.store.db != nil && (v.meta.Last < mark.Sequence || v.meta.Generation < mark.Generation) {
		v.report.add(messagesDir, "holds messages up to %d (generation %d), but %d (generation %d) was acknowledged: files are missing or were cut",
			v.meta.Last, v.meta.Generation, mark.Sequence, mark.Generation)
	}
	if v.store.db != nil && position.Sequence > max(v.meta.Last, mark.Sequence)+1 {
		v.report.add(controlName, "says that the drain is at %d, behind the end of the log at %d", position.Sequence, v.meta.Last)
	}
	err = c.file.View(func(tx ControlTx) error {
		v.checkCopies(tx)
		v.checkLetters(tx)
		return nil
	})
	if err != nil {
		v.report.add(controlName, "%v", err)
	}
}

// checkCopies wants both copies of the state to say the same; one that cannot be
// read is told with the other sealed values.
func (v *verifier) checkCopies(tx ControlTx) {
	for _, key := range []string{keyIdentity, keyWatermark, keyPosition} {
		var values [len(stateBuckets)][]byte
		readable := true
		for i, bucket := range stateBuckets {
			if sealed := tx.Get(bucket, key); sealed != nil {
				value, err := unseal(bucket, key, sealed)
				readable = readable && err == nil
				values[i] = append([]byte{}, value...)
			}
		}
		if readable && ((values[0] == nil) != (values[1] == nil) || !bytes.Equal(values[0], values[1])) {
			v.report.add(controlName, "has two copies of %s that differ", key)
		}
	}
}

// checkLetters reads every dead letter, its recipients, and every job.
func (v *verifier) checkLetters(tx ControlTx) {
	recipients := make(map[string]int)
	tx.Scan(bucketDeadReceivers, "", func(key string, sealed []byte) bool {
		if _, err := unseal(bucketDeadReceivers, key, sealed); err != nil {
			v.report.add(controlName, "%v", err)
		}
		id, _, _ := strings.Cut(key, "/")
		recipients[id]++
		return true
	})
	kinds := make(map[messaging.DeadLetterKind]uint64)
	tx.Scan(bucketDead, "", func(id string, sealed []byte) bool {
		record, err := decodeDeadLetter(id, sealed)
		if err != nil {
			v.report.add(controlName, "%v", err)
			return true
		}
		v.report.DeadLetters++
		kinds[record.Kind]++
		if record.Recipients != recipients[id] {
			v.report.add("dead letter "+id, "has %d recipients, and %d are counted", recipients[id], record.Recipients)
		}
		delete(recipients, id)
		return true
	})
	for id := range recipients {
		v.report.add("dead letter "+id, "is missing, and its recipients are there")
	}
	for _, kind := range []messaging.DeadLetterKind{messaging.Refused, messaging.Undeliverable} {
		if n, err := deadCount(tx, kind); err != nil || n != kinds[kind] {
			v.report.add(controlName, "counts %d dead letters of the kind %s, and %d are there", n, kind, kinds[kind])
		}
	}
	for _, bucket := range []string{bucketJobs, bucketState, bucketStateCopy} {
		tx.Scan(bucket, "", func(key string, sealed []byte) bool {
			if key == keyPad {
				return true
			}
			if _, err := unseal(bucket, key, sealed); err != nil {
				v.report.add(controlName, "%v", err)
			}
			return true
		})
	}
	tx.Scan(bucketDeadGroups, "", func(_ string, id []byte) bool {
		if tx.Get(bucketDead, string(id)) == nil {
			v.report.add("dead letter "+string(id), "is missing, and its group is there")
		}
		return true
	})
}
