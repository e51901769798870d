// SPDX-License-Identifier: Apache-2.0

package output

import _ "embed"

// schema is a string, so that nobody can change it.
//
//go:embed schema.json
var schema string

// Schema returns the JSON Schema (draft 2020-12) of one record: what `looptrace schema` prints,
// and what every test that makes records holds them against. The copy is the caller's.
//
// See https://json-schema.org/draft/2020-12/json-schema-core.
func Schema() []byte {
	return []byte(schema)
}
