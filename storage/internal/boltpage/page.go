package boltpage

// header is the header of a page. check.go shows its bytes.
type header struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32
}

// entry is an element of a page and what it points at. A branch element has the page
// below it and that page's first key. A leaf element has a key and its value.
type entry struct {
	flags      uint32
	page       uint64
	key, value []byte
}

func parseHeader(b []byte) header {
	return header{
		id: order.Uint64(b), flags: order.Uint16(b[8:]), count: order.Uint16(b[10:]), overflow: order.Uint32(b[12:]),
	}
}

func (h header) elementsEnd() uint64 { return headerLen + elementLen*uint64(h.count) }

// element returns the numbers of the i-th element.
func (h header) element(b []byte, i uint64) (flags uint32, page, pos, keyLen, valueLen uint64) {
	b = b[headerLen+elementLen*i:]
	if h.flags == branchPage {
		return 0, order.Uint64(b[8:]), uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), 0
	}
	return order.Uint32(b), 0, uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[8:])), uint64(order.Uint32(b[12:]))
}

// size returns the size of a page in bytes, computed from its elements, all of which b
// must have. It returns 0 if keys and values do not follow each other or a key is empty.
func (h header) size(b []byte) uint64 {
	end := h.elementsEnd()
	for i := range uint64(h.count) {
		_, _, pos, keyLen, valueLen := h.element(b, i)
		if headerLen+elementLen*i+pos != end || keyLen == 0 {
			return 0
		}
		end += keyLen + valueLen
	}
	return end
}

// entries returns the entries of a page. b must have all bytes up to its size.
func (h header) entries(b []byte) []entry {
	entries := make([]entry, h.count)
	at := h.elementsEnd()
	for i := range entries {
		flags, page, _, keyLen, valueLen := h.element(b, uint64(i))
		entries[i] = entry{flags: flags, page: page, key: b[at : at+keyLen], value: b[at+keyLen : at+keyLen+valueLen]}
		at += keyLen + valueLen
	}
	return entries
}

// read returns the first n bytes of a page. They must end before the last page in use
// does.
func (w *walk) read(id, n uint64) ([]byte, error) {
	if id < firstPage || id >= w.pages || n > (w.pages-id)*w.pageSize {
		return nil, wrongPage(id, "is outside the file or extends past its end")
	}
	b := make([]byte, n)
	_, err := w.file.ReadAt(b, int64(id*w.pageSize)) //nolint:gosec // less than the file's size
	return b, err
}

// header reads a page's header. It marks the page and its overflow pages as reached.
func (w *walk) header(id uint64) (h header, err error) {
	b, err := w.read(id, headerLen)
	if err != nil {
		return h, err
	}
	if h = parseHeader(b); h.id != id {
		return h, wrongPage(id, "has the number of another page")
	}
	if uint64(h.overflow) >= w.pages-id {
		return h, wrongPage(id, "extends past the end of the file")
	}
	for page := id; page <= id+uint64(h.overflow); page++ {
		if w.reached[page] {
			return h, wrongPage(page, "is used twice")
		}
		w.reached[page] = true
	}
	return h, nil
}

// page reads a branch or leaf page.
func (w *walk) page(id uint64) (branch bool, entries []entry, err error) {
	h, err := w.header(id)
	if err != nil {
		return false, nil, err
	}
	branch = h.flags == branchPage
	if !branch && h.flags != leafPage {
		return false, nil, wrongPage(id, "is neither a branch nor a leaf")
	}
	if h.count == 0 { // an empty bucket has no page of its own
		return false, nil, wrongPage(id, "has no entries")
	}
	elements, err := w.read(id, h.elementsEnd())
	if err != nil {
		return false, nil, err
	}
	size := h.size(elements)
	if size == 0 || (size-1)/w.pageSize != uint64(h.overflow) {
		return false, nil, wrongPage(id, "has inconsistent sizes")
	}
	b, err := w.read(id, size)
	if err != nil {
		return false, nil, err
	}
	return branch, h.entries(b), nil
}

// free reads the list of free pages. Only a file with no commit after its creation has
// one.
func (w *walk) free() ([]uint64, error) {
	if w.freelist == noFreelist {
		return nil, nil
	}
	h, err := w.header(w.freelist)
	if err != nil {
		return nil, err
	}
	if h.flags != freelistPage {
		return nil, wrongPage(h.id, "is not the list of free pages")
	}
	count, at := uint64(h.count), uint64(headerLen)
	if h.count == 0xFFFF {
		b, err := w.read(h.id, at+8)
		if err != nil {
			return nil, err
		}
		count, at = order.Uint64(b[at:]), at+8
	}
	if count > w.pages || at+8*count > (uint64(h.overflow)+1)*w.pageSize {
		return nil, wrongPage(h.id, "lists more pages than fit")
	}
	b, err := w.read(h.id, at+8*count)
	if err != nil {
		return nil, err
	}
	return parseFree(h.id, b[at:], w.pages)
}

// parseFree reads ascending page numbers.
func parseFree(page uint64, b []byte, pages uint64) ([]uint64, error) {
	free := make([]uint64, len(b)/8)
	last := uint64(firstPage - 1)
	for i := range free {
		free[i] = order.Uint64(b[8*i:])
		if free[i] <= last || free[i] >= pages {
			return nil, wrongPage(page, "lists pages that do not exist")
		}
		last = free[i]
	}
	return free, nil
}
