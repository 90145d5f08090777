-- Only the sweep that heads every bottle script, for a sea where nobody throws or picks. Reply: how many it handled.
return (sweep())
