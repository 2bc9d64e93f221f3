package storage

import (
	"fmt"
	"slices"
)

// Jobs gives what SaveJob has kept, by id.
func (c *Control) Jobs() (jobs map[string][]byte, err error) {
	jobs = make(map[string][]byte)
	viewErr := c.file.View(func(tx ControlTx) error {
		tx.Scan(bucketJobs, "", func(id string, sealed []byte) bool {
			var job []byte
			if job, err = unseal(bucketJobs, id, sealed); err != nil {
				err = fmt.Errorf("%w: %s: %w", ErrDamaged, controlName, err)
				return false
			}
			jobs[id] = slices.Clone(job)
			return true
		})
		return err
	})
	return jobs, viewErr
}

// SaveJob makes a job durable, in the words of whoever runs it.
func (c *Control) SaveJob(id string, job []byte) error {
	return c.update("save a job", func(tx ControlTx) error {
		return tx.Put(bucketJobs, id, seal(bucketJobs, id, job))
	})
}

// ForgetJob removes a job.
func (c *Control) ForgetJob(id string) error {
	return c.update("forget a job", func(tx ControlTx) error { return tx.Delete(bucketJobs, id) })
}
