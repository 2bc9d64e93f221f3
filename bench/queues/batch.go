package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
)

// batch compares batch sends with Pebble alone (see yardstick.go).
func batch(s *service) error {
	for _, size := range []int{100, 1000} {
		bodies := make([][]byte, 64)
		for i := range bodies {
			var lines bytes.Buffer
			for n := range size {
				lines.WriteString(message((i*size*31 + n*7919) % users))
				lines.WriteByte('\n')
			}
			bodies[i] = lines.Bytes()
		}
		yard, err := newYardstick(s.dir+"/yardstick", size)
		if err != nil {
			return err
		}
		err = compare(fmt.Sprintf("batches of %d", size), "Pebble alone with the same", func() (float64, error) {
			return load(4, *each, func(worker, n int) (int, error) {
				_, err := s.call(http.MethodPost, "/api/messages/batch", mediaLines, bodies[(worker+n*4)%len(bodies)])
				return size, err
			})
		}, func() (float64, error) { return load(4, *each, yard.commit) })
		if err = errors.Join(err, yard.close()); err != nil {
			return err
		}
	}
	return nil
}
