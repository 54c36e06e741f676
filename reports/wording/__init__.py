"""Tables, sentences and where numbers came from."""
