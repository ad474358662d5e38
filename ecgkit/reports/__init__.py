"""What a person looks at: figures, widgets, tables, pages."""
