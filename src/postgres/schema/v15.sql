ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS reads_off text;
ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS reads_off_by uuid;
